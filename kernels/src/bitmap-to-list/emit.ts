import type { KernelSource } from '@sparse-attention/core'
import { uniformStruct } from '../shared/uniforms.js'

export const bitmapToListUniforms = { rows: 'u32', words: 'u32', capacity: 'u32' } as const

/** The set bits of each row of a bitmap as a list: one workgroup a row. */
export function emitBitmapToList(): KernelSource {
  const code = `\
// counts[row] and indices[row, …]: places of the row's set bits, ascending, padded with −1; those past the capacity are dropped.
//
// bitmap u32[heads, rows, words]; counts i32[heads, rows]; indices i32[heads, rows, capacity].
//
// One workgroup of 64 a row, 64 words at a time: a word an invocation, placed after the bits of the words before it.
${uniformStruct('Uniforms', bitmapToListUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> bitmap: array<u32>;
@group(0) @binding(2) var<storage, read_write> counts: array<i32>;
@group(0) @binding(3) var<storage, read_write> indices: array<i32>;

var<workgroup> bits_of: array<u32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = workgroup.y * u.rows + workgroup.x;
  var before = 0u;
  for (var first = 0u; first < u.words; first += 64u) {
    let word = first + local;
    var bits = 0u;
    if (word < u.words) { bits = bitmap[row * u.words + word]; }
    workgroupBarrier();
    bits_of[local] = countOneBits(bits);
    workgroupBarrier();
    var place = before;
    for (var i = 0u; i < 64u; i++) {
      if (i < local) { place += bits_of[i]; }
      before += bits_of[i];
    }
    while (bits != 0u && place < u.capacity) {
      indices[row * u.capacity + place] = i32(word * 32u + firstTrailingBit(bits));
      bits &= bits - 1u;
      place++;
    }
  }
  let count = min(before, u.capacity);
  for (var i = count + local; i < u.capacity; i += 64u) { indices[row * u.capacity + i] = -1; }
  if (local == 0u) { counts[row] = i32(count); }
}
`
  return {
    label: 'bitmap-to-list',
    code,
    bindings: ['uniform', 'read', 'read_write', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 64 * 4,
  }
}
