import type { AttentionFrame, BufferSlice, Dispatch, Runtime } from '@sparse-attention/core'
import type { SortedRows } from '../counting-sort/counting-sort.js'
import { emitSortHistogram, emitSortScatter } from '../counting-sort/emit.js'
import { checkSortShape, sortLayout, sortPass } from '../counting-sort/sort-pass.js'
import { exclusiveScan } from '../exclusive-scan/exclusive-scan.js'
import { checkInteger, checkWords } from '../shared/check.js'

/** Bits of a key that one pass sorts by. */
const BITS = 8

/**
 * @param frame        for scratch: keys and values once, and a counter for every fourth row
 * @param keys         u32 [segments, length]
 * @param values       i32 [segments, length] that come with the keys, or 'indices': 0, 1, 2 … in every segment
 * @param sortedKeys   u32 [segments, length], written, from small to large; may be `keys`
 * @param sortedValues i32 [segments, length], written; may be `values`
 */
export type RadixSort = (
  frame: Pick<AttentionFrame, 'scratch'>,
  rows: SortedRows,
  keys: BufferSlice,
  values: BufferSlice | 'indices',
  sortedKeys: BufferSlice,
  sortedValues: BufferSlice,
) => readonly Dispatch[]

/**
 * Stable sort of each segment by u32 keys, 8 bits a pass from the lowest; make keys of floating-point numbers with
 * `sortKeys`. Twenty dispatches: in each pass counts per digit and tile, their scan (3), and the move.
 *
 * Cost: 4 passes of 256 comparisons a row; in each keys are read twice, values once, and both written.
 *
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL, LIMIT_EXCEEDED
 */
export async function radixSort(runtime: Runtime): Promise<RadixSort> {
  const [histogram, scan, scatterIndices, scatterPairs] = await Promise.all([
    runtime.kernel(emitSortHistogram()),
    exclusiveScan(runtime),
    runtime.kernel(emitSortScatter({ moves: 'indices' })),
    runtime.kernel(emitSortScatter({ moves: 'pairs' })),
  ])
  return (frame, { segments, length }, keys, values, sortedKeys, sortedValues) => {
    checkInteger('segments', segments, 1, 2 ** 31)
    checkInteger('length', length, 1, 2 ** 31)
    const shape = { segments, length, bins: 2 ** BITS }
    checkSortShape(shape)
    const count = segments * length
    checkWords('keys', keys, count)
    if (values !== 'indices') checkWords('values', values, count)
    checkWords('sortedKeys', sortedKeys, count)
    checkWords('sortedValues', sortedValues, count)

    const counts = frame.scratch(sortLayout(shape).counters * 4)
    const between = { keys: frame.scratch(count * 4), values: frame.scratch(count * 4) }
    const sorted = { keys: sortedKeys, values: sortedValues }
    // The sums of a scan are scratch that all passes can share, since they follow one another.
    const sums: BufferSlice[] = []
    return [
      { from: { keys, values }, to: between },
      { from: between, to: sorted },
      { from: sorted, to: between },
      { from: between, to: sorted },
    ].flatMap(({ from, to }, pass) => {
      let taken = 0
      const shared = { scratch: (sizeBytes: number) => (sums[taken++] ??= frame.scratch(sizeBytes)) }
      const moved = [to.keys, to.values, ...(from.values === 'indices' ? [] : [from.values])]
      const scatter = from.values === 'indices' ? scatterIndices : scatterPairs
      const bits = { shift: pass * BITS, mask: 2 ** BITS - 1 }
      return sortPass(runtime, { histogram, scan, scatter }, shared, shape, bits, { keys: from.keys, counts, moved })
    })
  }
}
