import type { AttentionConfig, AttentionFrame, BufferSlice, Dispatch, Runtime } from '@sparse-attention/core'
import { columnSums } from '../column-sums/column-sums.js'
import { diagonalSums } from '../diagonal-sums/diagonal-sums.js'
import { rowStatistics } from '../row-statistics/row-statistics.js'
import { sampledScores } from '../sampled-scores/sampled-scores.js'
import { checkRows, headRanges, type RowSource, type SampledRows } from '../shared/sampled-rows.js'

/**
 * @param rows      the query rows that are sampled
 * @param columns   f32 [B·Hq, Lk]: softmax weight of each key, summed over the rows
 * @param diagonals f32 [B·Hq, Lk]: of each distance o, of the keys o places before the rows
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export type SampledWeights = (
  frame: AttentionFrame,
  rows: SampledRows,
  columns: BufferSlice,
  diagonals: BufferSlice,
) => readonly Dispatch[]

/**
 * What sampled queries look at: the softmax weights of their rows, summed per key and per distance (the verticals and
 * slashes of MInference, arXiv 2407.02490, §3.2). `sampledScores`, `rowStatistics`, `columnSums` and `diagonalSums`, over as
 * many heads at once as have scores of at most `scoreBytes` in scratch, and at least one; default 128 MiB, what one
 * binding holds anywhere.
 *
 * Cost: 2 · H · rows · Lk · D + 10 · H · rows · Lk operations; k once, scores written once and read three times.
 */
export async function sampledWeights(
  runtime: Runtime,
  config: Pick<AttentionConfig, 'dtype' | 'headDim' | 'causal'>,
  source: RowSource,
  { scoreBytes = 128 * 2 ** 20 }: { readonly scoreBytes?: number } = {},
): Promise<SampledWeights> {
  const [score, statistics, sumColumns, sumDiagonals] = await Promise.all([
    sampledScores(runtime, config, source),
    rowStatistics(runtime),
    columnSums(runtime),
    diagonalSums(runtime, source),
  ])
  return (frame, rows, columns, diagonals) => {
    checkRows(source, rows, frame.queryLength)
    const shape = { rows: rows.count, columns: frame.keyLength }
    const ranges = headRanges(frame.batch * frame.queryHeads, shape.rows * shape.columns * 4, scoreBytes)
    const scores = frame.scratch(ranges[0]!.count * shape.rows * shape.columns * 4)
    const stats = frame.scratch(ranges[0]!.count * shape.rows * 8)
    return ranges.flatMap((heads) => [
      score(frame, rows, heads, scores),
      statistics({ heads: heads.count, ...shape }, scores, stats),
      sumColumns(heads, shape, scores, stats, columns),
      sumDiagonals(frame, rows, heads, scores, stats, diagonals),
    ])
  }
}
