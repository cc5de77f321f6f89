/**
 * Top-k over one row of scores: forced blocks, then others by score until k are kept, ties to the lower index. NaN
 * counts as −∞.
 */
export function selectTopKReference(scores: ArrayLike<number>, forced: readonly boolean[], topK: number): boolean[] {
  const values = Array.from(scores, (score) => (Number.isNaN(score) ? Number.NEGATIVE_INFINITY : score))
  const kept = [...forced]
  const others = values.map((_, c) => c).filter((c) => !forced[c])
  others.sort((a, b) => (values[a] === values[b] ? a - b : values[b]! - values[a]!))
  const room = Math.max(0, topK - (values.length - others.length))
  for (const c of others.slice(0, room)) kept[c] = true
  return kept
}
