import type { KernelSource } from '@sparse-attention/core'
import { joinPartsFunction, softmaxPartFunction } from '../shared/softmax-part.js'
import { uniformStruct } from '../shared/uniforms.js'
import { indent, LOWEST, range } from '../shared/wgsl.js'

export const rowStatisticsUniforms = { columns: 'u32', rows: 'u32' } as const

const INVOCATIONS = 256

/** Scores that an invocation has on the way at once: memory answers late, and a row has one workgroup. */
const EACH = 8

/** Largest number and inverse softmax sum of each row: one workgroup a row. */
export function emitRowStatistics(): KernelSource {
  const chunk = INVOCATIONS * EACH
  const inside = (i: number) => `c + ${i * INVOCATIONS}u < u.columns`
  const four = (first: number) => `vec4<f32>(${[0, 1, 2, 3].map((i) => `x_${first + i}`).join(', ')})`
  const code = `\
// statistics[row] = (m, 1 / Σ_c exp(scores[row, c] − m)), m the row's largest score. Cells of the lowest finite number count
// for nothing; a row of nothing else has the inverse 0. Scores are finite, in natural units.
//
// scores f32 [rows, columns]; statistics f32 [rows, 2]. One workgroup of ${INVOCATIONS} a row, ${EACH} scores of an invocation at a time.
${uniformStruct('Uniforms', rowStatisticsUniforms)}

@group(0) @binding(0) var<uniform> u: Uniforms;
@group(0) @binding(1) var<storage, read> scores: array<f32>;
@group(0) @binding(2) var<storage, read_write> statistics: array<vec2<f32>>;

var<workgroup> parts: array<vec2<f32>, ${INVOCATIONS}>;

${softmaxPartFunction}

${joinPartsFunction}

@compute @workgroup_size(${INVOCATIONS})
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = workgroup.y * u.rows + workgroup.x;
  let start = row * u.columns;

  var part = vec2<f32>(${LOWEST}, 0.0);
  for (var c = local; c < u.columns; c += ${chunk}u) {
    ${indent(
      range(EACH)
        .map((i) => `let read_${i} = scores[start + min(c + ${i * INVOCATIONS}u, u.columns - 1u)];`)
        .join('\n'),
      4,
    )}
    ${indent(
      range(EACH)
        .map((i) => `let x_${i} = select(${LOWEST}, read_${i}, ${inside(i)});`)
        .join('\n'),
      4,
    )}
    part = join_parts(part, join_parts(softmax_part(${four(0)}), softmax_part(${four(4)})));
  }
  parts[local] = part;
  for (var half = ${INVOCATIONS / 2}u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (local < half) { parts[local] = join_parts(parts[local], parts[local + half]); }
  }
  if (local == 0u) { statistics[row] = vec2<f32>(parts[0].x, select(1.0 / parts[0].y, 0.0, parts[0].y == 0.0)); }
}
`
  return {
    label: 'row-statistics',
    code,
    bindings: ['uniform', 'read', 'read_write'],
    workgroupSize: INVOCATIONS,
    workgroupBytes: INVOCATIONS * 8,
  }
}
