import type { KernelSource } from '@sparse-attention/core'
import { uniformStruct } from '../shared/uniforms.js'
import { LOWEST } from '../shared/wgsl.js'

export const rowStatisticsUniforms = { columns: 'u32', rows: 'u32' } as const

const INVOCATIONS = 256

/** Largest number and inverse softmax sum of each row: one workgroup a row. */
export function emitRowStatistics(): KernelSource {
  const reduce = (combine: string) => `\
for (var half = ${INVOCATIONS / 2}u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (local < half) { partial[local] = ${combine}; }
  }
  workgroupBarrier();`
  const code = `\
// statistics[row] = (m, 1 / Σ_c exp(scores[row, c] − m)), m the row's largest score. Cells of the lowest finite number count
// for nothing; a row of nothing else has the inverse 0. Scores are finite, in natural units.
//
// scores f32 [rows, columns]; statistics f32 [rows, 2]. One workgroup of ${INVOCATIONS} a row.
${uniformStruct('Uniforms', rowStatisticsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> scores: array<f32>;
@group(0) @binding(2) var<storage, read_write> statistics: array<vec2<f32>>;

var<workgroup> partial: array<f32, ${INVOCATIONS}>;

@compute @workgroup_size(${INVOCATIONS})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = workgroup.y * u.rows + workgroup.x;
  let start = row * u.columns;

  var largest = ${LOWEST};
  for (var c = local; c < u.columns; c += ${INVOCATIONS}u) { largest = max(largest, scores[start + c]); }
  partial[local] = largest;
  ${reduce('max(partial[local], partial[local + half])')}
  largest = partial[0];
  workgroupBarrier();

  var sum = 0.0;
  for (var c = local; c < u.columns; c += ${INVOCATIONS}u) {
    let x = scores[start + c];
    sum += select(exp(max(x - largest, -1000.0)), 0.0, x == ${LOWEST});
  }
  partial[local] = sum;
  ${reduce('partial[local] + partial[local + half]')}
  if (local == 0u) { statistics[row] = vec2<f32>(largest, select(1.0 / partial[0], 0.0, partial[0] == 0.0)); }
}
`
  return {
    label: 'row-statistics',
    code,
    bindings: ['uniform', 'read', 'read_write'],
    workgroupSize: INVOCATIONS,
    workgroupBytes: INVOCATIONS * 4,
  }
}
