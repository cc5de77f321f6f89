import type { BufferSlice, Dispatch, Runtime } from '@sparse-attention/core'
import { checkInteger, checkWords } from '../shared/check.js'
import { packUniforms } from '../shared/uniforms.js'
import { emitRowStatistics, rowStatisticsUniforms } from './emit.js'

/** Scores of some heads: f32 [heads, rows, columns]. */
export interface ScoreRows {
  readonly heads: number
  /** Of a head. */
  readonly rows: number
  readonly columns: number
}

/**
 * @param scores     f32 [heads, rows, columns], finite
 * @param statistics f32 [heads, rows, 2]
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export type RowStatistics = (shape: ScoreRows, scores: BufferSlice, statistics: BufferSlice) => Dispatch

/**
 * What a softmax of each row needs: its largest score and the inverse of Σ exp(score − largest). Cells of the lowest finite
 * number (−3.4028234e38) weigh nothing; a row of nothing else gets the inverse 0.
 *
 * Cost: 4 operations a cell; scores read once.
 */
export async function rowStatistics(runtime: Runtime): Promise<RowStatistics> {
  const kernel = await runtime.kernel(emitRowStatistics())
  return ({ heads, rows, columns }, scores, statistics) => {
    checkInteger('heads', heads, 1, 65535)
    checkInteger('rows', rows, 1, 65535)
    const cells = heads * rows * columns
    checkWords('scores', scores, cells)
    checkWords('statistics', statistics, heads * rows * 2)
    return {
      kernel,
      bindings: [runtime.uniforms.get(packUniforms(rowStatisticsUniforms, { columns, rows })), scores, statistics],
      workgroups: [rows, heads, 1],
      cost: { operations: 4 * cells, bytes: 4 * cells + 8 * heads * rows },
    }
  }
}
