import { MARGIN } from './emit.js'

/** Weights of the scores of one row, and which are kept: see `pruneTopP`. Scores below `lowest` have no weight. */
export function pruneTopPReference(
  scores: ArrayLike<number>,
  p: number,
  isForced: (i: number) => boolean,
): { readonly kept: boolean[]; readonly weights: number[]; readonly gap: number } {
  const values = Array.from(scores, (score) => (Number.isNaN(score) ? Number.NEGATIVE_INFINITY : score))
  const largest = values.reduce((a, x) => Math.max(a, x), Number.NEGATIVE_INFINITY)
  const weights = values.map((x) => (x === Number.NEGATIVE_INFINITY ? 0 : Math.exp(x - largest)))
  const total = weights.reduce((sum, w) => sum + w, 0)
  const all = { kept: values.map(() => true), weights, gap: Number.POSITIVE_INFINITY }
  if (p * (1 + MARGIN) >= 1 || total === 0) return all
  const wanted = p * (1 + MARGIN) * total
  let mass = weights.reduce((sum, w, i) => sum + (isForced(i) ? w : 0), 0)
  const others = weights.map((_, i) => i).filter((i) => !isForced(i))
  others.sort((a, b) => weights[b]! - weights[a]!)
  // Where the mass wanted lies between two weights decides; so does where the weight at the cut differs from the next.
  let gap = Math.abs(mass - wanted)
  let cut = mass >= wanted ? Number.POSITIVE_INFINITY : 0
  for (const [n, i] of others.entries()) {
    if (mass >= wanted) break
    const before = mass
    mass += weights[i]!
    gap = Math.min(wanted - before, Math.abs(mass - wanted))
    cut = weights[i]!
    const next = others[n + 1]
    if (mass >= wanted && next !== undefined)
      gap = Math.min(gap, weights[i]! - weights[next]! || Number.POSITIVE_INFINITY)
  }
  return { kept: weights.map((w, i) => isForced(i) || w >= cut), weights, gap }
}
