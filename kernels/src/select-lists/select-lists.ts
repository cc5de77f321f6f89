import type { AttentionFrame, BufferSlice, Dispatch, Runtime } from '@sparse-attention/core'
import { checkInteger, checkWords } from '../shared/check.js'
import { packUniforms } from '../shared/uniforms.js'
import { emitSelectLists, selectListsUniforms } from './emit.js'

/** A list of each head: counts i32[heads], indices i32[heads, capacity], ascending, padded with −1. */
export interface HeadLists {
  readonly capacity: number
  readonly counts: BufferSlice
  readonly indices: BufferSlice
}

/** A k for each query head: that of head h of batch · query heads is values[first + h % heads], rounded down. */
export interface TopKPerHead {
  /** f32, not negative, such as a `perHeadTable` holds. */
  readonly values: BufferSlice
  readonly first: number
  readonly heads: number
  /** The largest of them. */
  readonly most: number
}

/** What one list of each head holds. */
export interface ListChoice {
  /** f32[heads, length]; NaN counts as −∞. */
  readonly scores: BufferSlice
  /** Entries that a head keeps, forced ones included. */
  readonly topK: number | TopKPerHead
  /** The first so many entries are kept whatever their score, also where they are more than k. Default 0. */
  readonly forced?: number
}

/**
 * @param frame   gives the scratch that the lists lie in
 * @param heads   rows of scores
 * @param length  entries of a row
 * @param choices one or two, for a list of each head each
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export type SelectLists = (
  frame: Pick<AttentionFrame, 'scratch'>,
  shape: { readonly heads: number; readonly length: number },
  choices: readonly ListChoice[],
) => { readonly lists: readonly HeadLists[]; readonly dispatch: Dispatch }

/** Of 256 bytes, at which bindings start. */
const WORDS = 64

/**
 * The k entries of largest score of each head, such as its key columns or distances, as ascending lists: the first `forced`
 * of them, then others by score, ties to the lower index.
 *
 * Cost: 6 operations an entry, in 5 passes over the scores, most of them from the cache; the lists written once.
 */
export async function selectLists(runtime: Runtime): Promise<SelectLists> {
  const kernel = await runtime.kernel(emitSelectLists())
  return (frame, { heads, length }, choices) => {
    checkInteger('choices', choices.length, 1, 2)
    checkInteger('heads', heads, 1, 65535)
    checkInteger('length', length, 1, 2 ** 31 - 1)
    const countsStride = Math.ceil(heads / WORDS) * WORDS
    const counts = frame.scratch(choices.length * countsStride * 4)
    const lists = choices.map(({ scores, topK, forced = 0 }, n): HeadLists => {
      checkWords('scores', scores, heads * length)
      const largest = Math.floor(typeof topK === 'number' ? topK : topK.most)
      const capacity = Math.max(1, Math.min(length, Math.max(forced, largest)))
      const offsetBytes = counts.offsetBytes + n * countsStride * 4
      return {
        capacity,
        counts: { buffer: counts.buffer, offsetBytes, sizeBytes: heads * 4 },
        indices: frame.scratch(heads * capacity * 4),
      }
    })
    // A list that is not there is neither read nor written, but its bindings must be filled.
    const [first, second = first] = choices
    const nothing = () => frame.scratch(16)
    const table = ({ topK, scores }: ListChoice) => (typeof topK === 'number' ? scores : topK.values)
    const uniforms = packUniforms(selectListsUniforms, {
      length,
      counts_stride: countsStride,
      ...valuesOf(0, first!, lists[0]!),
      ...valuesOf(1, second!, lists[1] ?? lists[0]!),
    })
    const dispatch: Dispatch = {
      kernel,
      bindings: [
        ...[runtime.uniforms.get(uniforms), first!.scores, second!.scores, table(first!), table(second!)],
        ...[counts, lists[0]!.indices, lists[1]?.indices ?? nothing()],
      ],
      workgroups: [heads, choices.length, 1],
      cost: {
        operations: 6 * choices.length * heads * length,
        bytes: lists.reduce((bytes, { capacity }) => bytes + 4 * heads * (length + capacity + 1), 0),
      },
    }
    return { lists, dispatch }
  }
}

function valuesOf<N extends 0 | 1>(n: N, { topK, forced = 0 }: ListChoice, { capacity }: HeadLists) {
  const table = typeof topK === 'number' ? undefined : topK
  return {
    [`forced_${n}`]: forced,
    [`top_k_${n}`]: table ? 0 : Math.min(topK as number, 2 ** 31),
    [`from_table_${n}`]: table ? 1 : 0,
    [`first_k_${n}`]: table?.first ?? 0,
    [`table_heads_${n}`]: table?.heads ?? 1,
    [`capacity_${n}`]: capacity,
  } as Record<`${'forced' | 'top_k' | 'from_table' | 'first_k' | 'table_heads' | 'capacity'}_${N}`, number>
}
