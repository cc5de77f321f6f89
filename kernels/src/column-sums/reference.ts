import { rowStatisticsReference } from '../row-statistics/reference.js'

/** Softmax weights of rows of scores f64 [heads, rows, columns] summed per column, f64 [heads, columns]. */
export function columnSumsReference(scores: Float64Array, rows: number, columns: number): Float64Array {
  const sums = new Float64Array(scores.length / rows)
  for (let row = 0; row < scores.length / columns; row++) {
    const cells = scores.subarray(row * columns, (row + 1) * columns)
    const { largest, inverse } = rowStatisticsReference(cells)
    const head = Math.floor(row / rows)
    for (let j = 0; j < columns; j++) {
      if (cells[j]! > Number.NEGATIVE_INFINITY) sums[head * columns + j]! += Math.exp(cells[j]! - largest) * inverse
    }
  }
  return sums
}
