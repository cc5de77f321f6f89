import type { KernelSource } from '@sparse-attention/core'
import { blockGridUniforms } from '../shared/blocks.js'
import { uniformStruct } from '../shared/uniforms.js'

export const bandBlocksUniforms = {
  ...blockGridUniforms,
  reach: 'u32',
  first_keys: 'u32',
  dense_from: 'u32',
  key_length: 'u32',
} as const

/** Writes a plan of blocks near the diagonal: one invocation a word. */
export function emitBandBlocks(): KernelSource {
  const code = `\
// A plan of the blocks at most \`reach\` off the diagonal, those that hold one of the first keys, and all rows and columns that
// hold a token from dense_from on. plan u32[heads, query_blocks, words].
//
// One invocation a word: workgroups (words / 64, query_blocks, heads).
${uniformStruct('Uniforms', bandBlocksUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read_write> plan: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let word = workgroup.x * 64u + local;
  let a = workgroup.y;
  if (word >= u.words) { return; }
  let dense_row = min((a + 1u) * u.block_q, u.query_length) > u.dense_from;
  var bits = 0u;
  for (var i = 0u; i < 32u; i++) {
    let c = word * 32u + i;
    let dense_column = min((c + 1u) * u.block_k, u.key_length) > u.dense_from;
    let near = max(a, c) - min(a, c) <= u.reach;
    if (c < u.key_blocks && (near || c * u.block_k < u.first_keys || dense_row || dense_column)) { bits |= 1u << i; }
  }
  plan[(workgroup.z * u.query_blocks + a) * u.words + word] = bits;
}
`
  return {
    label: 'band-blocks',
    code,
    bindings: ['uniform', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 0,
  }
}
