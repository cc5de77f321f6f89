import { rowStatisticsReference } from '../row-statistics/reference.js'

/**
 * Softmax weights of scores f64 [heads, positions.length, keyLength] summed by how far the key lies before its row, f64
 * [heads, keyLength]. `positions` are the rows' places among the keys.
 */
export function diagonalSumsReference(
  scores: Float64Array,
  positions: readonly number[],
  keyLength: number,
): Float64Array {
  const rows = positions.length
  const sums = new Float64Array(scores.length / rows)
  for (let row = 0; row < scores.length / keyLength; row++) {
    const cells = scores.subarray(row * keyLength, (row + 1) * keyLength)
    const { largest, inverse } = rowStatisticsReference(cells)
    const head = Math.floor(row / rows)
    for (let j = 0; j < keyLength; j++) {
      const offset = positions[row % rows]! - j
      if (offset < 0 || offset >= keyLength || cells[j] === Number.NEGATIVE_INFINITY) continue
      sums[head * keyLength + offset]! += Math.exp(cells[j]! - largest) * inverse
    }
  }
  return sums
}
