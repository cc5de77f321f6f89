import type { KernelSource } from '@sparse-attention/core'
import { type RowSource, rowOfFunction, sampledRowsUniforms, softmaxWeightFunction } from '../shared/sampled-rows.js'
import { uniformStruct } from '../shared/uniforms.js'

export const diagonalSumsUniforms = {
  ...sampledRowsUniforms,
  key_length: 'u32',
  query_offset: 'i32',
  first_head: 'u32',
} as const

/** Softmax weight that sampled rows give to keys at each distance: one invocation an offset. */
export function emitDiagonalSums(source: RowSource): KernelSource {
  const code = `\
// sums[h, o] = Σ_r softmax weight of the key o places before sampled row r (the slashes of MInference, arXiv 2407.02490,
// §3.2): of scores[h, r, row(r) + query_offset − o], where there is such a key.
//
// scores f32 [heads, rows, Lk]; statistics f32 [heads, rows, 2]; sums f32 [all heads, Lk], of which the heads from first_head
// are written. One invocation an offset, rows in order.
${uniformStruct('Uniforms', diagonalSumsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> scores: array<f32>;
@group(0) @binding(2) var<storage, read> statistics: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;
${source === 'given' ? '@group(0) @binding(4) var<storage, read> row_indices: array<i32>;\n' : ''}
${rowOfFunction(source)}

${softmaxWeightFunction}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let offset = workgroup.x * 64u + local;
  if (offset >= u.key_length) { return; }
  var sum = 0.0;
  for (var r = 0u; r < u.rows; r++) {
    let query = row_of(r);
    let key = i32(query) + u.query_offset - i32(offset);
    if (query == NO_ROW || key < 0 || key >= i32(u.key_length)) { continue; }
    let row = workgroup.y * u.rows + r;
    sum += weight(scores[row * u.key_length + u32(key)], row);
  }
  sums[(u.first_head + workgroup.y) * u.key_length + offset] = sum;
}
`
  return {
    label: 'diagonal-sums',
    code,
    bindings: ['uniform', 'read', 'read', 'read_write', ...(source === 'given' ? (['read'] as const) : [])],
    workgroupSize: 64,
    workgroupBytes: 0,
  }
}
