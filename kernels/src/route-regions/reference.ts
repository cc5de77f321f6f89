/** Ranks of one row of affinities: the top k, ties to the lower index; NaN counts as −∞. */
export function topRoutesReference(affinities: ArrayLike<number>, topK: number): number[] {
  const values = Array.from(affinities, (x) => (Number.isNaN(x) ? Number.NEGATIVE_INFINITY : x))
  const order = values.map((_, c) => c).sort((a, b) => (values[a] === values[b] ? a - b : values[b]! - values[a]!))
  return order.slice(0, topK)
}
