/** Largest score of a row and the inverse of Σ exp(score − largest), f64; −∞ weighs nothing. */
export function rowStatisticsReference(row: ArrayLike<number>): { largest: number; inverse: number } {
  let largest = Number.NEGATIVE_INFINITY
  for (let c = 0; c < row.length; c++) largest = Math.max(largest, row[c]!)
  let sum = 0
  for (let c = 0; c < row.length; c++) if (row[c]! > Number.NEGATIVE_INFINITY) sum += Math.exp(row[c]! - largest)
  return { largest, inverse: sum === 0 ? 0 : 1 / sum }
}
