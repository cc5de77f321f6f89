import type { KernelSource, SubgroupMatrix } from '@sparse-attention/core'
import { matrixProduct } from '../shared/matrix-product.js'
import { rowOfFunction } from '../shared/sampled-rows.js'
import { matrixDialect } from '../shared/subgroup-matrix.js'
import { uniformStruct } from '../shared/uniforms.js'
import { indent, orderedFunction, range } from '../shared/wgsl.js'
import {
  putScoreFunction,
  type SampledScoresOptions,
  sampledScoresBindings,
  sampledScoresHeader,
  sampledScoresHeads,
  sampledScoresKinds,
  sampledScoresUniforms,
} from './emit.js'

/** Rows and columns of the scores of a workgroup. */
export const MATRIX_TILE = { rows: 64, columns: 128 } as const

export interface MatrixSampledScoresOptions extends Omit<SampledScoresOptions, 'dtype'> {
  readonly subgroupMatrix: SubgroupMatrix
  /** 16-byte units of head_dim staged at once: 4, which needs more workgroup memory, or 2. */
  readonly units: 2 | 4
}

/** Matrix tier, f16. */
export function emitMatrixSampledScores(options: MatrixSampledScoresOptions): KernelSource {
  const { headDim, causal, source, subgroupMatrix, units } = options
  const dialect = matrixDialect(subgroupMatrix)
  const half = { ...options, dtype: 'f16' } as const
  const product = matrixProduct(
    dialect,
    { subgroupRows: 1, subgroupColumns: 2, units },
    {
      declare: (name, n) =>
        name === 'q'
          ? `\
let token_${n} = row_of(first_row + row_${n});
let at_${n} = q_head + token_${n} * u.q_row_stride + lane_unit;`
          : `\
let token_${n} = first_column + row_${n};
let at_${n} = k_head + token_${n} * u.k_row_stride + lane_unit;`,
      fetch: (name, n) =>
        name === 'q'
          ? `if (token_${n} != NO_ROW) { unit_${n} = q[at_${n} + first_unit]; }`
          : `if (token_${n} < u.key_length) { unit_${n} = k[at_${n} + first_unit]; }`,
    },
  )
  const code = `\
${dialect.directives}

${sampledScoresHeader(half)}
//
// A workgroup computes ${MATRIX_TILE.rows} × ${MATRIX_TILE.columns} scores over ${8 * units} dimensions at a time, on subgroup matrices.
${uniformStruct('Uniforms', sampledScoresUniforms)}

${sampledScoresBindings(half)}
${dialect.types}

const UNITS = ${headDim / 8}u; // 16-byte units of a token
${product.memory}

${rowOfFunction(source)}

${orderedFunction}

${putScoreFunction(causal)}

@compute @workgroup_size(${product.workgroupSize})
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  ${indent(sampledScoresHeads, 2)}
  let first_column = workgroup.x * ${MATRIX_TILE.columns}u;
  let first_row = workgroup.y * ${MATRIX_TILE.rows}u;
  ${indent(product.declare, 2)}

  var first_unit = 0u;
  ${indent(product.loop(`first_unit += ${units}u;`, 'first_unit == UNITS'), 2)}

  // Neighbouring lanes write neighbouring scores. Choosing by conditions keeps the four in registers.
  let column_in_patch = local % 16u;
  let upper = (local & 2u) != 0u;
  let odd = (local & 1u) != 0u;
  ${indent(
    product.store(({ cells }) =>
      range(8)
        .map(
          (i) => `\
{
  let four = ${cells(`${2 * i}u + lane / 16u`, 'column_in_patch / 4u')};
  let two = select(four.xy, four.zw, upper);
  put_score(workgroup.z, first_row + patch_row + ${2 * i}u + lane / 16u, first_column + patch_column + column_in_patch, select(two.x, two.y, odd));
}`,
        )
        .join('\n'),
    ),
    2,
  )}
}
`
  return {
    label: 'sampled-scores',
    code,
    bindings: sampledScoresKinds(source),
    workgroupSize: product.workgroupSize,
    workgroupBytes: product.workgroupBytes,
  }
}
