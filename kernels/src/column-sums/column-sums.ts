import type { BufferSlice, Dispatch, Runtime } from '@sparse-attention/core'
import { checkInteger, checkWords } from '../shared/check.js'
import type { HeadRange } from '../shared/sampled-rows.js'
import { packUniforms } from '../shared/uniforms.js'
import { columnSumsUniforms, emitColumnSums } from './emit.js'

/**
 * @param heads      heads of batch · query heads that the scores are of
 * @param shape      rows and columns of a head's scores
 * @param scores     f32 [heads.count, rows, columns], of `sampledScores`
 * @param statistics f32 [heads.count, rows, 2], of `rowStatistics`
 * @param sums       f32 [B·Hq, columns]
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export type ColumnSums = (
  heads: HeadRange,
  shape: { readonly rows: number; readonly columns: number },
  scores: BufferSlice,
  statistics: BufferSlice,
  sums: BufferSlice,
) => Dispatch

/**
 * Adds up, for each key, the softmax weights that the sampled rows give it (the verticals of MInference, arXiv 2407.02490,
 * §3.2). All sums of a head add up to the number of its rows that see a key.
 *
 * Cost: 3 operations a cell; scores read once.
 */
export async function columnSums(runtime: Runtime): Promise<ColumnSums> {
  const kernel = await runtime.kernel(emitColumnSums())
  return (heads, { rows, columns }, scores, statistics, sums) => {
    checkInteger('heads.count', heads.count, 1, 65535)
    const cells = heads.count * rows * columns
    checkWords('scores', scores, cells)
    checkWords('statistics', statistics, heads.count * rows * 2)
    checkWords('sums', sums, (heads.first + heads.count) * columns)
    const uniforms = packUniforms(columnSumsUniforms, { columns, rows, first_head: heads.first })
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), scores, statistics, sums],
      workgroups: [Math.ceil(columns / 64), heads.count, 1],
      cost: { operations: 3 * cells, bytes: 4 * cells + 4 * heads.count * columns },
    }
  }
}
