import type { KernelSource } from '@sparse-attention/core'
import { softmaxWeightFunction } from '../shared/sampled-rows.js'
import { uniformStruct } from '../shared/uniforms.js'

export const columnSumsUniforms = { columns: 'u32', rows: 'u32', first_head: 'u32' } as const

/** Softmax weight that sampled rows give to each key: one invocation a column. */
export function emitColumnSums(): KernelSource {
  const code = `\
// sums[h, j] = Σ_r softmax weight of scores[h, r, j] (the verticals of MInference, arXiv 2407.02490, §3.2).
//
// scores f32 [heads, rows, columns]; statistics f32 [heads, rows, 2]; sums f32 [all heads, columns], of which the heads from
// first_head are written. One invocation a column, rows in order.
${uniformStruct('Uniforms', columnSumsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> scores: array<f32>;
@group(0) @binding(2) var<storage, read> statistics: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;

${softmaxWeightFunction}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let column = workgroup.x * 64u + local;
  if (column >= u.columns) { return; }
  var sum = 0.0;
  for (var r = 0u; r < u.rows; r++) {
    let row = workgroup.y * u.rows + r;
    sum += weight(scores[row * u.columns + column], row);
  }
  sums[(u.first_head + workgroup.y) * u.columns + column] = sum;
}
`
  return {
    label: 'column-sums',
    code,
    bindings: ['uniform', 'read', 'read', 'read_write'],
    workgroupSize: 64,
    workgroupBytes: 0,
  }
}
