/**
 * Top-p over one row of weights: forced first, then by weight, ties to the lower index; an entry is kept while the sum
 * before it is below p · total. NaN counts as 0; a row without weight, or p ≥ 1, keeps everything.
 */
export function selectTopPReference(weights: ArrayLike<number>, forced: readonly boolean[], p: number): boolean[] {
  const values = Array.from(weights, (weight) => (Number.isNaN(weight) ? 0 : Math.max(weight, 0)))
  const total = values.reduce((sum, weight) => sum + weight, 0)
  if (p >= 1 || total === 0) return values.map(() => true)
  const kept = [...forced]
  let before = values.reduce((sum, weight, c) => sum + (forced[c] ? weight : 0), 0)
  const order = values.map((_, c) => c).filter((c) => !forced[c])
  for (const c of order.sort((a, b) => values[b]! - values[a]! || a - b)) {
    if (!(before < p * total)) break
    kept[c] = true
    before += values[c]!
  }
  return kept
}
