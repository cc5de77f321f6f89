import type { AttentionFrame, BufferSlice, Dispatch, Runtime } from '@sparse-attention/core'
import { bitmapToList } from '../bitmap-to-list/bitmap-to-list.js'
import { forcedBlocks } from '../forced-blocks/forced-blocks.js'
import { type SelectTopKKernelOptions, selectTopK, type TopKPerHead } from '../select-top-k/select-top-k.js'
import { entryPlan } from '../shared/block-plan.js'

/** A list of each head: counts i32[heads], indices i32[heads, capacity], ascending, padded with −1. */
export interface HeadLists {
  readonly capacity: number
  readonly counts: BufferSlice
  readonly indices: BufferSlice
}

/**
 * @param frame   gives the scratch that the lists lie in
 * @param heads   rows of scores
 * @param length  entries of a row
 * @param scores  f32[heads, length]; NaN counts as −∞
 * @param topK    entries that a head keeps, forced ones included
 * @param most    the largest of them, where `topK` is a table
 */
export type SelectLists = (
  frame: Pick<AttentionFrame, 'scratch'>,
  shape: { readonly heads: number; readonly length: number },
  scores: BufferSlice,
  topK: number | TopKPerHead,
  most?: number,
) => { readonly lists: HeadLists; readonly dispatches: readonly Dispatch[] }

export interface SelectListsOptions extends Pick<SelectTopKKernelOptions, 'perHead'> {
  /** The first so many entries are kept whatever their score, also where they are more than k. Default 0. */
  readonly forced?: number
}

/**
 * The k entries of largest score of each head, such as its key columns or distances, as ascending lists: the first `forced`
 * of them, then others by score, ties to the lower index. `forcedBlocks`, `selectTopK` and `bitmapToList`.
 *
 * Cost: 6 operations an entry; scores read once, the lists written once.
 */
export async function selectLists(
  runtime: Runtime,
  { forced = 0, perHead = false }: SelectListsOptions = {},
): Promise<SelectLists> {
  const [force, select, list] = await Promise.all([
    forcedBlocks(runtime, false, { sinkBlocks: forced, diagonal: false }),
    selectTopK(runtime, false, { invocations: 256, perHead }),
    bitmapToList(runtime),
  ])
  return (frame, { heads, length }, scores, topK, most = length) => {
    const largest = typeof topK === 'number' ? topK : Math.floor(most)
    const capacity = Math.max(1, Math.min(length, Math.max(forced, largest)))
    const entries = entryPlan(heads, length, frame.scratch(heads * Math.ceil(length / 32) * 4))
    const lists = { capacity, counts: frame.scratch(heads * 4), indices: frame.scratch(heads * capacity * 4) }
    const dispatches = [
      force(entries),
      select(entries, { firstRow: 0, rows: 1, columns: length }, scores, topK),
      list({ heads, rows: 1, length, capacity }, entries.bitmap, lists.counts, lists.indices),
    ]
    return { lists, dispatches }
  }
}
