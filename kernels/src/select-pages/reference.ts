import { selectTopKReference } from '../select-top-k/reference.js'

/** The pages of one row, ascending: the first `sinks`, the last, then others by score until there are `topK`. */
export function selectPagesReference(scores: ArrayLike<number>, topK: number, sinks: number): number[] {
  if (scores.length <= topK) return Array.from(scores, (_, n) => n)
  const forced = Array.from(scores, (_, n) => n < sinks || n === scores.length - 1)
  return selectTopKReference(scores, forced, topK).flatMap((kept, n) => (kept ? [n] : []))
}
