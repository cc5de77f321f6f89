/** Indices of one segment's keys from small to large, ties in their order. */
export function radixSortReference(keys: ArrayLike<number>): number[] {
  return Array.from(keys, (_, i) => i).sort((a, b) => keys[a]! - keys[b]! || a - b)
}

/** Indices of numbers in a direction: ties, also of 0 and −0, in their order; NaN counts as −∞. */
export function sortOrderReference(scores: ArrayLike<number>, direction: 'ascending' | 'descending'): number[] {
  const value = (i: number) => (Number.isNaN(scores[i]!) ? Number.NEGATIVE_INFINITY : scores[i]!)
  const sign = direction === 'ascending' ? 1 : -1
  const compare = (a: number, b: number) => (value(a) === value(b) ? a - b : value(a) < value(b) ? -sign : sign)
  return Array.from(scores, (_, i) => i).sort(compare)
}
