export interface ClusterChoice {
  readonly kept: boolean[]
  /** The smallest change of a weight that makes the rule keep another set; +∞ when none can. */
  readonly gap: number
  readonly weights: number[]
}

/**
 * Top-p over clusters of keys for one cluster of queries, in float64: by weight sizes[j] · exp(scores[j]), ties to the lower
 * index, a cluster is kept while the sum before it is at most p of the total, or while fewer than `fewest` are.
 */
export function selectClustersReference(
  scores: ArrayLike<number>,
  sizes: ArrayLike<number>,
  p: number,
  fewest: number,
): ClusterChoice {
  const candidates = Array.from(sizes, (_, c) => c).filter((c) => sizes[c]! > 0)
  const numbers = candidates.filter((c) => !Number.isNaN(scores[c]!))
  const largest = Math.max(...numbers.map((c) => scores[c]!))
  const weights = Array.from(sizes, (size, c) =>
    size > 0 && !Number.isNaN(scores[c]!) ? size * Math.exp(scores[c]! - largest) : 0,
  )
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  const kept = Array.from(sizes, () => false)
  if (p >= 1 || total === 0) {
    for (const c of candidates) kept[c] = true
    return { kept, gap: Number.POSITIVE_INFINITY, weights }
  }
  // As the kernel has it: in float32.
  const wanted = Math.fround(Math.fround(p) * Math.fround(total))
  const order = candidates.sort((a, b) => weights[b]! - weights[a]! || a - b)
  let before = 0
  let gap = Number.POSITIVE_INFINITY
  for (const [rank, c] of order.entries()) {
    const taken = rank < fewest || before <= wanted
    if (rank >= fewest) gap = Math.min(gap, Math.abs(wanted - before))
    if (!taken) {
      // Which of two comes first matters only at the cut.
      const last = order[rank - 1]
      if (last !== undefined) gap = Math.min(gap, weights[last]! - weights[c]!)
      break
    }
    kept[c] = true
    before += weights[c]!
  }
  return { kept, gap, weights }
}
