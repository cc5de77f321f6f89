import type { KernelSource } from '@sparse-attention/core'
import { uniformStruct } from '../shared/uniforms.js'

export const unionPlansUniforms = { words: 'u32', row_words: 'u32' } as const
export const unionOfGroupsUniforms = { words: 'u32', row_words: 'u32', group_size: 'u32', copies: 'u32' } as const

/** What both kernels say of a word's number: x runs along a row of workgroups, y over the rows. */
const wordNumber = 'let word = (workgroup.y * u.row_words + workgroup.x) * 64u + local;'

/** OR of two bitmaps: one invocation a word. */
export function emitUnionPlans(): KernelSource {
  const code = `\
// plan |= other, u32[words] both. One invocation a word; row_words workgroups along x.
${uniformStruct('Uniforms', unionPlansUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> other: array<u32>;
@group(0) @binding(2) var<storage, read_write> plan: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  ${wordNumber}
  if (word < u.words) { plan[word] |= other[word]; }
}
`
  return {
    label: 'union-plans',
    code,
    bindings: ['uniform', 'read', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 0,
  }
}

/** OR over the query heads of each KV head: one invocation a word of a group. */
export function emitUnionOfGroups(): KernelSource {
  const code = `\
// union[g] = OR of the bitmaps of heads g · group_size …, written once a group, or once for each of its heads.
// bitmaps u32[heads, words]; unions u32[heads / group_size · copies, words]. One invocation a word of a group; z is the group.
${uniformStruct('Uniforms', unionOfGroupsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> bitmaps: array<u32>;
@group(0) @binding(2) var<storage, read_write> unions: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  ${wordNumber}
  if (word >= u.words) { return; }
  var bits = 0u;
  for (var head = 0u; head < u.group_size; head++) {
    bits |= bitmaps[(workgroup.z * u.group_size + head) * u.words + word];
  }
  for (var copy = 0u; copy < u.copies; copy++) {
    unions[(workgroup.z * u.copies + copy) * u.words + word] = bits;
  }
}
`
  return {
    label: 'union-of-groups',
    code,
    bindings: ['uniform', 'read', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 0,
  }
}
