import type { KernelSource } from '@sparse-attention/core'
import { gridUniforms, workgroupNumberFunction } from '../shared/grid.js'
import { sortKeyFunction } from '../shared/sort-key.js'
import { uniformStruct } from '../shared/uniforms.js'

/** Numbers of one workgroup. */
export const KEYS_PER_WORKGROUP = 1024

export const sortKeysUniforms = {
  ...gridUniforms,
  count: 'u32',
  /** All ones to sort from large to small, else 0. */
  flip: 'u32',
} as const

/** Keys whose unsigned order is that of floating-point numbers. */
export function emitSortKeys(): KernelSource {
  const code = `\
// keys[i] = a u32 that orders as scores[i] does, or the other way round.
//
// scores f32 [count], any; keys u32 [count]. One workgroup of 256 for ${KEYS_PER_WORKGROUP} numbers.
${uniformStruct('Uniforms', sortKeysUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> scores: array<u32>; // bits of f32, so that NaN and −0 arrive as they are
@group(0) @binding(2) var<storage, read_write> keys: array<u32>;

${workgroupNumberFunction}

${sortKeyFunction}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let number = workgroup_number(workgroup);
  if (number >= u.end_workgroup) { return; }
  let end = min((number + 1u) * ${KEYS_PER_WORKGROUP}u, u.count);
  for (var i = number * ${KEYS_PER_WORKGROUP}u + local; i < end; i += 256u) { keys[i] = sort_key(scores[i]) ^ u.flip; }
}
`
  return {
    label: 'sort-keys',
    code,
    bindings: ['uniform', 'read', 'read_write'],
    workgroupSize: 256,
    workgroupBytes: 0,
  }
}
