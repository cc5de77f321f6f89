import type { KernelSource } from '@sparse-attention/core'
import { uniformStruct } from '../shared/uniforms.js'

export const carriedBlocksUniforms = {
  /** Of a row of blocks. */
  words: 'u32',
  query_blocks: 'u32',
  key_blocks: 'u32',
  /** 1: nothing is carried yet, every block counts. */
  fresh: 'u32',
  /** Key blocks before the first and from the second on are always in; so is every block of query blocks from the third on. */
  first_keys_end: 'u32',
  last_keys_start: 'u32',
  last_rows_start: 'u32',
} as const

/** Takes the blocks that are carried, and leaves none: one invocation a word. */
export function emitCarriedBlocks(): KernelSource {
  const code = `\
// plan = carried or all blocks, and those that are forced; carried = 0, for the votes of the call that runs the plan.
// Both u32[heads, query_blocks, words]. One invocation a word: workgroups (words / 64, query_blocks, heads).
${uniformStruct('Uniforms', carriedBlocksUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read_write> carried: array<u32>;
@group(0) @binding(2) var<storage, read_write> plan: array<u32>;

// The bits of the blocks before \`end\` in the word that begins with block \`first\`.
fn bits_before(first: u32, end: u32) -> u32 {
  if (end <= first) { return 0u; }
  return select((1u << ((end - first) % 32u)) - 1u, 0xffffffffu, end - first >= 32u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let word = workgroup.x * 64u + local;
  if (word >= u.words) { return; }
  let at = (workgroup.z * u.query_blocks + workgroup.y) * u.words + word;
  let first = word * 32u;
  var bits = carried[at] | bits_before(first, u.first_keys_end) | ~bits_before(first, u.last_keys_start);
  if (u.fresh == 1u || workgroup.y >= u.last_rows_start) { bits = 0xffffffffu; }
  plan[at] = bits & bits_before(first, u.key_blocks);
  carried[at] = 0u;
}
`
  return {
    label: 'carried-blocks',
    code,
    bindings: ['uniform', 'read_write', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 0,
  }
}
