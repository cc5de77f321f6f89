/** Softmax of one row over its first `visible` cells, the rest 0; NaN counts as −∞. f64. */
export function rowSoftmaxReference(row: ArrayLike<number>, visible: number): Float64Array {
  const weights = new Float64Array(row.length)
  let top = Number.NEGATIVE_INFINITY
  for (let c = 0; c < visible; c++) if (row[c]! > top) top = row[c]!
  if (top === Number.NEGATIVE_INFINITY) return weights
  let sum = 0
  for (let c = 0; c < visible; c++) {
    weights[c] = Number.isNaN(row[c]!) ? 0 : Math.exp(row[c]! - top)
    sum += weights[c]!
  }
  return weights.map((weight) => weight / sum)
}
