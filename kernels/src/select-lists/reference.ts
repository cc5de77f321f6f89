import { selectTopKReference } from '../select-top-k/reference.js'

/** The entries of one head that are kept, ascending: the first `forced`, then others by score, until there are k. */
export function selectListsReference(scores: ArrayLike<number>, topK: number, forced: number): number[] {
  const isForced = Array.from(scores, (_, n) => n < forced)
  return selectTopKReference(scores, isForced, topK).flatMap((kept, n) => (kept ? [n] : []))
}
