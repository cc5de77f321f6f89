import type { KernelSource } from '@sparse-attention/core'
import { uniformStruct } from '../shared/uniforms.js'

export const listToBitmapUniforms = { rows: 'u32', words: 'u32', length: 'u32', capacity: 'u32' } as const

/** A list as the set bits of each row of a bitmap: one invocation a word. */
export function emitListToBitmap(): KernelSource {
  const code = `\
// The bits at indices[row, …] of each row, and no others. Entries below 0 or from the length on are left out.
//
// counts i32[heads, rows]; indices i32[heads, rows, capacity], ascending; bitmap u32[heads, rows, words].
//
// One invocation a word: a binary search for its first entry, then those that fall into it. No atomics.
${uniformStruct('Uniforms', listToBitmapUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> counts: array<i32>;
@group(0) @binding(2) var<storage, read> indices: array<i32>;
@group(0) @binding(3) var<storage, read_write> bitmap: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let word = workgroup.x * 64u + local;
  if (word >= u.words) { return; }
  let row = workgroup.z * u.rows + workgroup.y;
  let list = row * u.capacity;
  let count = u32(clamp(counts[row], 0, i32(u.capacity)));
  let first_bit = i32(word * 32u);
  let end_bit = i32(min(word * 32u + 32u, u.length));
  var low = 0u;
  var high = count;
  while (low < high) {
    let middle = (low + high) / 2u;
    if (indices[list + middle] < first_bit) { low = middle + 1u; } else { high = middle; }
  }
  var bits = 0u;
  for (var i = low; i < count && indices[list + i] < end_bit; i++) {
    bits |= 1u << (u32(indices[list + i]) & 31u);
  }
  bitmap[row * u.words + word] = bits;
}
`
  return {
    label: 'list-to-bitmap',
    code,
    bindings: ['uniform', 'read', 'read', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 0,
  }
}
