import type { KernelSource, SubgroupMatrix } from '@sparse-attention/core'
import { matrixProduct, type Patch } from '../shared/matrix-product.js'
import { joinPartsFunction, softmaxPartFunction } from '../shared/softmax-part.js'
import { matrixDialect } from '../shared/subgroup-matrix.js'
import { uniformStruct } from '../shared/uniforms.js'
import { indent } from '../shared/wgsl.js'
import {
  type AntidiagonalStatisticsOptions,
  antidiagonalBindings,
  antidiagonalHeader,
  antidiagonalUniforms,
  leaveUnseenTile,
  seenScoresFunction,
} from './emit.js'

/** Rows and columns of the scores of a workgroup. */
export const MATRIX_TILE = 128

export interface MatrixAntidiagonalOptions extends Omit<AntidiagonalStatisticsOptions, 'dtype'> {
  readonly subgroupMatrix: SubgroupMatrix
  /** 16-byte units of head_dim staged at once: 4, which needs more workgroup memory, or 2. */
  readonly units: 2 | 4
}

/**
 * Matrix tier, f16: one product of rows of stride · head_dim, those of q with their tokens in reverse order.
 */
export function emitMatrixAntidiagonalStatistics(options: MatrixAntidiagonalOptions): KernelSource {
  const { headDim, stride, block, causal, subgroupMatrix, units } = options
  const dialect = matrixDialect(subgroupMatrix)
  const perBlock = block / stride
  const product = matrixProduct(
    dialect,
    { subgroupRows: 2, subgroupColumns: 2, units },
    {
      declare: (name, n) =>
        name === 'q'
          ? `\
let token_${n} = (first_row + row_${n}) * STRIDE + STRIDE - 1u;
let at_${n} = q_head + token_${n} * u.q_row_stride + lane_unit;`
          : `\
let token_${n} = (first_column + row_${n}) * STRIDE;
let at_${n} = k_head + token_${n} * u.k_row_stride + lane_unit;`,
      fetch: (name, n) =>
        name === 'q'
          ? `if (token_${n} - r < u.query_length) { unit_${n} = q[at_${n} + first_unit - r * u.q_row_stride]; }`
          : `if (token_${n} + r < u.key_length) { unit_${n} = k[at_${n} + first_unit + r * u.k_row_stride]; }`,
    },
  )

  const put = (at: string, part: string, condition = '') =>
    `if (${condition}live && ${at} < u.key_blocks) { statistics[first_cell + ${at}] = ${part}; }`
  /** Two neighbouring lanes have a row of a patch: eight scores each, which are two blocks, one, or a part of one. */
  const reduce = ({ column, cells }: Patch): string => {
    const parts = `\
let row = patch_row + lane / 2u;
let column = patch_column + lane % 2u * 8u;
let live = first_row + row < u.first_row + u.rows;
let first_cell = (workgroup.z * u.rows + first_row - u.first_row + row) * u.key_blocks;
let scores_a = seen_scores(${cells('lane / 2u', 'lane % 2u * 2u')} * u.scale, first_row + row, first_column + column);
let scores_b = seen_scores(${cells('lane / 2u', 'lane % 2u * 2u + 1u')} * u.scale, first_row + row, first_column + column + 4u);
let part_a = softmax_part(scores_a);
let part_b = softmax_part(scores_b);
let block = (first_column + column) / ${perBlock}u;`
    if (perBlock === 4) return [parts, put('block', 'part_a'), put('block + 1u', 'part_b')].join('\n')
    if (perBlock === 8) return [parts, put('block', 'join_parts(part_a, part_b)')].join('\n')
    const whole = `\
var part = join_parts(part_a, part_b);
part = join_parts(part, vec2<f32>(subgroupShuffleXor(part.x, 1u), subgroupShuffleXor(part.y, 1u)));`
    const one = 'lane % 2u == 0u && '
    if (perBlock === 16) return [parts, whole, put('block', 'part', one)].join('\n')
    // Of two patches.
    return column % 32 === 0
      ? [parts, whole, 'half_block = part;'].join('\n')
      : [parts, whole, put('block', 'join_parts(half_block, part)', one)].join('\n')
  }

  const code = `\
${dialect.directives}

${antidiagonalHeader({ ...options, dtype: 'f16' })}
//
// A workgroup computes ${MATRIX_TILE} × ${MATRIX_TILE} scores over ${8 * units} dimensions of a token at a time, on subgroup matrices.
${uniformStruct('Uniforms', antidiagonalUniforms)}

${antidiagonalBindings('f16')}

${dialect.types}

const STRIDE = ${stride}u;
const UNITS = ${headDim / 8}u; // 16-byte units of a token
${product.memory}

${seenScoresFunction(causal, stride)}

${softmaxPartFunction}

${joinPartsFunction}

@compute @workgroup_size(${product.workgroupSize})
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  let batch = workgroup.z / u.query_heads;
  let head = workgroup.z % u.query_heads;
  let first_column = workgroup.x * ${MATRIX_TILE}u;
  let first_row = u.first_row + (u.first_tile + workgroup.y) * ${MATRIX_TILE}u;
  ${indent(leaveUnseenTile(causal, stride, MATRIX_TILE), 2)}\
  let q_head = u.q_offset + batch * u.q_batch_stride + head * u.q_head_stride;
  let k_head = u.k_offset + batch * u.k_batch_stride + head / u.group_size * u.k_head_stride;
  ${indent(product.declare, 2)}

  var r = 0u;
  var first_unit = 0u;
  ${indent(
    product.loop(
      `\
first_unit += ${units}u;
if (first_unit == UNITS) {
  first_unit = 0u;
  r++;
}`,
      'r == STRIDE',
    ),
    2,
  )}

  ${perBlock === 32 ? 'var half_block: vec2<f32>;\n  ' : ''}${indent(product.store(reduce), 2)}
}
`
  return {
    label: 'antidiagonal-statistics',
    code,
    bindings: ['uniform', 'read', 'read', 'read_write'],
    workgroupSize: product.workgroupSize,
    workgroupBytes: product.workgroupBytes,
  }
}
