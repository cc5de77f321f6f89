import type { KernelSource } from '@sparse-attention/core'
import { uniformStruct } from '../shared/uniforms.js'
import { LOWEST, orderedFunction } from '../shared/wgsl.js'

export const rowSoftmaxUniforms = {
  rows: 'u32',
  columns: 'u32',
  first_row: 'u32',
  /** A row r sees columns c with c · stride ≤ (first_row + r) · stride + stride − 1 + query_offset. */
  stride: 'u32',
  query_offset: 'i32',
} as const

/** Softmax along rows, in place: one workgroup a row, three passes over it. */
export function emitRowSoftmax(causal: boolean): KernelSource {
  const code = `\
// Softmax of each row of scores f32 [heads, rows, columns], in place${causal ? ', over the columns that the row sees; the others become 0' : ''}.
// A NaN score counts as −∞, ±∞ as the largest number, so that one bad key spoils no other cell.
//
// One workgroup of 64 invocations a row.
${uniformStruct('Uniforms', rowSoftmaxUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read_write> scores: array<f32>;

var<workgroup> partial: array<f32, 64>;

${orderedFunction}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = workgroup.x;
  let start = (workgroup.y * u.rows + row) * u.columns;
  ${
    causal
      ? `let last_key = i32((u.first_row + row + 1u) * u.stride) - 1 + u.query_offset;
  let visible = u32(clamp(select(-1, last_key / i32(u.stride), last_key >= 0) + 1, 0, i32(u.columns)));`
      : 'let visible = u.columns;'
  }

  var top = ${LOWEST};
  for (var c = local; c < visible; c += 64u) { top = max(top, ordered(scores[start + c])); }
  partial[local] = top;
  workgroupBarrier();
  for (var i = 0u; i < 64u; i++) { top = max(top, partial[i]); }
  workgroupBarrier();

  // In natural units: scores carry the softmax scale. The clamp keeps the difference of huge scores finite.
  var sum = 0.0;
  for (var c = local; c < visible; c += 64u) {
    let x = ordered(scores[start + c]);
    // Only NaN is exactly the lowest number: it weighs nothing, also in a row of nothing else.
    let weight = select(exp(max(x - top, -1000.0)), 0.0, x == ${LOWEST});
    scores[start + c] = weight;
    sum += weight;
  }
  partial[local] = sum;
  workgroupBarrier();
  sum = 0.0;
  for (var i = 0u; i < 64u; i++) { sum += partial[i]; }
  let inverse = select(1.0 / sum, 0.0, sum == 0.0);
  for (var c = local; c < u.columns; c += 64u) {
    scores[start + c] = select(0.0, scores[start + c] * inverse, c < visible);
  }
}
`
  return {
    label: 'row-softmax',
    code,
    bindings: ['uniform', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 64 * 4,
  }
}
