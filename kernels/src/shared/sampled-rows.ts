import { type BufferSlice, SparseAttentionError } from '@sparse-attention/core'
import { checkInteger, checkWords } from './check.js'
import { LOWEST } from './wgsl.js'

/** Which query rows are sampled: the last ones, or rows that the caller lists. Decided when a primitive is compiled. */
export type RowSource = 'last' | 'given'

/** The sampled query rows, the same of every head. */
export interface SampledRows {
  /** How many rows. */
  readonly count: number
  /** i32[count], with the source `given`: indices of queries. One outside of the queries is a row that sees no key. */
  readonly indices?: BufferSlice
}

/** Heads of batch · query heads that one call is about: scores of all heads at once may not fit one binding. */
export interface HeadRange {
  readonly first: number
  readonly count: number
}

/** Cuts `heads` into ranges whose scores fit `limitBytes`; a range is never smaller than one head. */
export function headRanges(heads: number, bytesPerHead: number, limitBytes: number): HeadRange[] {
  const most = Math.max(1, Math.min(65535, Math.floor(limitBytes / bytesPerHead)))
  const ranges: HeadRange[] = []
  for (let first = 0; first < heads; first += most) ranges.push({ first, count: Math.min(most, heads - first) })
  return ranges
}

/** The fields that `row_of` reads. */
export const sampledRowsUniforms = { query_length: 'u32', first_row: 'u32', rows: 'u32' } as const

export function sampledRowsValues(
  rows: SampledRows,
  queryLength: number,
): Record<keyof typeof sampledRowsUniforms, number> {
  return { query_length: queryLength, first_row: Math.max(0, queryLength - rows.count), rows: rows.count }
}

/** WGSL `row_of(r)`: the query of sampled row r, or NO_ROW. Needs `u`, and `row_indices` where rows are given. */
export const rowOfFunction = (source: RowSource): string => `\
const NO_ROW = 0xffffffffu;

fn row_of(r: u32) -> u32 {
  if (r >= u.rows) { return NO_ROW; }
  let row = ${source === 'last' ? 'u.first_row + r' : 'u32(row_indices[r])'};
  return select(NO_ROW, row, row < u.query_length);
}`

/** WGSL `weight(score, row)`: softmax weight of a score, from its row's statistics; 0 of the lowest number. */
export const softmaxWeightFunction: string = `\
// The clamp keeps the difference of huge scores finite. Only NaN and keys out of sight are exactly the lowest number.
fn weight(score: f32, row: u32) -> f32 {
  let largest = statistics[row].x;
  return select(exp(max(score - largest, -1000.0)) * statistics[row].y, 0.0, score == ${LOWEST});
}`

/** @throws INVALID_ARGUMENT for rows that do not fit their source or the queries, BUFFER_TOO_SMALL for short indices */
export function checkRows(source: RowSource, rows: SampledRows, queryLength: number): void {
  checkInteger('rows.count', rows.count, 1, source === 'last' ? Math.min(queryLength, 65535) : 65535)
  if (source === 'given' && rows.indices) checkWords('rows.indices', rows.indices, rows.count)
  else if (source === 'given' || rows.indices) {
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: `rows.indices is ${rows.indices ? 'given' : 'missing'}, and the rows are the ${source} ones.`,
      fix: "Compile with the source 'given' and pass i32 indices, or with 'last' and pass none.",
      where: 'rows.indices',
    })
  }
}
