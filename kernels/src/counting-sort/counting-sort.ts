import type { AttentionFrame, BufferSlice, Dispatch, Runtime } from '@sparse-attention/core'
import { exclusiveScan } from '../exclusive-scan/exclusive-scan.js'
import { checkInteger, checkWords } from '../shared/check.js'
import { emitSortHistogram, emitSortScatter, MOST_BINS } from './emit.js'
import { checkSortShape, sortLayout, sortPass } from './sort-pass.js'

/** Rows to sort: segments are sorted each for itself, e.g. one a batch entry and head. */
export interface SortedRows {
  readonly segments: number
  /** Rows of a segment. */
  readonly length: number
  /** At most those compiled for, which are the default. */
  readonly bins?: number
}

/**
 * @param frame  for scratch: a u32 for at most every key, and a little
 * @param keys   u32 [segments, length], below the number of bins; larger ones count as the last bin
 * @param order  i32 [segments, length], written: the row of the segment that comes i-th
 * @param starts i32 [segments, bins + 1], written: the place of each bin's first row, and at last the length
 */
export type CountingSort = (
  frame: Pick<AttentionFrame, 'scratch'>,
  rows: SortedRows,
  keys: BufferSlice,
  order: BufferSlice,
  starts: BufferSlice,
) => readonly Dispatch[]

/**
 * Stable sort of rows by small integers such as cluster labels or hash buckets: `order` is a permutation that groups
 * each bin's rows and keeps their order, and bin b lies at places starts[b] … starts[b + 1] of it.
 *
 * Five dispatches: counts per bin and tile, their scan (3), and the move.
 *
 * Cost: 256 comparisons a row, with which its rank in a tile is counted; keys read twice, the permutation written.
 *
 * @param bins from 1 to 4096
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL, LIMIT_EXCEEDED
 */
export async function countingSort(runtime: Runtime, bins: number): Promise<CountingSort> {
  checkInteger('bins', bins, 1, MOST_BINS)
  const [histogram, scan, scatter] = await Promise.all([
    runtime.kernel(emitSortHistogram()),
    exclusiveScan(runtime),
    runtime.kernel(emitSortScatter({ moves: 'order' })),
  ])
  const most = bins
  return (frame, { segments, length, bins = most }, keys, order, starts) => {
    checkInteger('rows.bins', bins, 1, most)
    checkInteger('segments', segments, 1, 2 ** 31)
    checkInteger('length', length, 1, 2 ** 31)
    const shape = { segments, length, bins }
    checkSortShape(shape)
    checkWords('keys', keys, segments * length)
    checkWords('order', order, segments * length)
    checkWords('starts', starts, segments * (bins + 1))
    const counts = frame.scratch(sortLayout(shape).counters * 4)
    const bits = { shift: 0, mask: 0xffffffff }
    return sortPass(runtime, { histogram, scan, scatter }, frame, shape, bits, {
      keys,
      counts,
      moved: [order, starts],
    })
  }
}
