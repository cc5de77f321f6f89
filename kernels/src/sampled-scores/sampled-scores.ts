import {
  type AttentionConfig,
  type AttentionFrame,
  type BufferSlice,
  bytesPerElement,
  type Dispatch,
  type Kernel,
  type Runtime,
} from '@sparse-attention/core'
import { bindTensor } from '../shared/bind.js'
import { checkInteger, checkWords } from '../shared/check.js'
import { fittingProduct } from '../shared/matrix-product.js'
import { TILE } from '../shared/product-tile.js'
import {
  checkRows,
  type HeadRange,
  type RowSource,
  type SampledRows,
  sampledRowsValues,
} from '../shared/sampled-rows.js'
import { addressValues, packUniforms } from '../shared/uniforms.js'
import { emitSampledScores, type SampledScoresOptions, sampledScoresUniforms } from './emit.js'
import { emitMatrixSampledScores, MATRIX_TILE } from './matrix.js'

/**
 * @param rows   the query rows to score
 * @param heads  the heads of batch · query heads to score
 * @param scores f32 [heads.count, rows.count, Lk]
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export type SampledScores = (
  frame: AttentionFrame,
  rows: SampledRows,
  heads: HeadRange,
  scores: BufferSlice,
) => Dispatch

/**
 * Scores of chosen query rows against all keys, scores[h, r, j] = scale · q[row(r)] · k[j]: the last rows (MInference,
 * arXiv 2407.02490, §3.2), or listed ones. Keys that a row does not see (bottom-right causality) and NaN are the lowest
 * finite number, ±∞ the largest of its sign. `rowStatistics` and then `columnSums` and `diagonalSums` turn them into
 * softmax weights and add those up.
 *
 * Cost: 2 · heads · rows · Lk · D operations; k and the rows of q read once, scores written.
 */
export async function sampledScores(
  runtime: Runtime,
  { dtype, headDim, causal }: Pick<AttentionConfig, 'dtype' | 'headDim' | 'causal'>,
  source: RowSource,
): Promise<SampledScores> {
  const { kernel, tile } = await compile(runtime, { dtype, headDim, causal, source })
  return (frame, rows, heads, scores) => {
    const { queryHeads, kvHeads, queryLength, keyLength } = frame
    checkRows(source, rows, queryLength)
    checkInteger('heads.first', heads.first, 0, frame.batch * queryHeads - 1)
    checkInteger('heads.count', heads.count, 1, Math.min(65535, frame.batch * queryHeads - heads.first))
    const cells = heads.count * rows.count * keyLength
    checkWords('scores', scores, cells)
    const q = bindTensor(frame.q)
    const k = bindTensor(frame.k)
    const uniforms = packUniforms(sampledScoresUniforms, {
      ...addressValues('q', q),
      ...addressValues('k', k),
      ...sampledRowsValues(rows, queryLength),
      query_heads: queryHeads,
      group_size: queryHeads / kvHeads,
      key_length: keyLength,
      query_offset: keyLength - queryLength,
      scale: frame.scale,
      first_head: heads.first,
    })
    const keys = Math.ceil((heads.count * kvHeads) / queryHeads) * keyLength
    return {
      kernel,
      bindings: [
        runtime.uniforms.get(uniforms),
        q.slice,
        k.slice,
        scores,
        ...(source === 'given' ? [rows.indices!] : []),
      ],
      workgroups: [Math.ceil(keyLength / tile.columns), Math.ceil(rows.count / tile.rows), heads.count],
      cost: {
        operations: 2 * cells * headDim,
        bytes: (heads.count * rows.count + keys) * headDim * bytesPerElement[dtype] + cells * 4,
      },
    }
  }
}

interface Compiled {
  readonly kernel: Kernel
  /** Scores of a workgroup. */
  readonly tile: { readonly rows: number; readonly columns: number }
}

/** On matrices where the tier has them and they fit. */
async function compile(runtime: Runtime, options: SampledScoresOptions): Promise<Compiled> {
  const matrix = fittingProduct(runtime, options, (form) => emitMatrixSampledScores({ ...options, ...form }))
  if (matrix) return { kernel: await runtime.kernel(matrix), tile: MATRIX_TILE }
  return { kernel: await runtime.kernel(emitSampledScores(options)), tile: { rows: TILE, columns: TILE } }
}
