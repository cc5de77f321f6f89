import type { AttentionFrame, BufferSlice, Dispatch, Runtime } from '@sparse-attention/core'
import { checkWords } from '../shared/check.js'
import {
  checkRows,
  type HeadRange,
  type RowSource,
  type SampledRows,
  sampledRowsValues,
} from '../shared/sampled-rows.js'
import { packUniforms } from '../shared/uniforms.js'
import { diagonalSumsUniforms, emitDiagonalSums } from './emit.js'

/**
 * @param rows       the query rows that the scores are of
 * @param heads      heads of batch · query heads that the scores are of
 * @param scores     f32 [heads.count, rows.count, Lk], of `sampledScores`
 * @param statistics f32 [heads.count, rows.count, 2], of `rowStatistics`
 * @param sums       f32 [B·Hq, Lk]: of offsets 0 … Lk − 1
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export type DiagonalSums = (
  frame: Pick<AttentionFrame, 'queryLength' | 'keyLength'>,
  rows: SampledRows,
  heads: HeadRange,
  scores: BufferSlice,
  statistics: BufferSlice,
  sums: BufferSlice,
) => Dispatch

/**
 * Adds up, for each offset o, the softmax weights that the sampled rows give to the key o places before them (the slashes of
 * MInference, arXiv 2407.02490, §3.2), where a row's place is its index + Lk − Lq. Keys after a row count for no offset.
 *
 * Cost: 3 operations a cell; scores read once.
 */
export async function diagonalSums(runtime: Runtime, source: RowSource): Promise<DiagonalSums> {
  const kernel = await runtime.kernel(emitDiagonalSums(source))
  return ({ queryLength, keyLength }, rows, heads, scores, statistics, sums) => {
    checkRows(source, rows, queryLength)
    const cells = heads.count * rows.count * keyLength
    checkWords('scores', scores, cells)
    checkWords('statistics', statistics, heads.count * rows.count * 2)
    checkWords('sums', sums, (heads.first + heads.count) * keyLength)
    const uniforms = packUniforms(diagonalSumsUniforms, {
      ...sampledRowsValues(rows, queryLength),
      key_length: keyLength,
      query_offset: keyLength - queryLength,
      first_head: heads.first,
    })
    const indices = source === 'given' ? [rows.indices!] : []
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), scores, statistics, sums, ...indices],
      workgroups: [Math.ceil(keyLength / 64), heads.count, 1],
      cost: { operations: 3 * cells, bytes: 4 * cells + 4 * heads.count * keyLength },
    }
  }
}
