/**
 * Softmax weights per block from statistics (largest, Σ exp(score − largest)) of one head's rows, f64 [query blocks][key
 * blocks]: row u sees the first `seen(u)` key blocks. Statistics are f64 [rows, keyBlocks, 2].
 */
export function blockWeightsReference(
  statistics: ArrayLike<number>,
  { rows, keyBlocks, rowsPerBlock }: { rows: number; keyBlocks: number; rowsPerBlock: number },
  seen: (row: number) => number,
): Float64Array[] {
  const weights = Array.from({ length: Math.ceil(rows / rowsPerBlock) }, () => new Float64Array(keyBlocks))
  for (let row = 0; row < rows; row++) {
    const cells = Array.from({ length: seen(row) }, (_, c) => 2 * (row * keyBlocks + c))
    const largest = Math.max(...cells.map((at) => statistics[at]!))
    const parts = cells.map((at) => statistics[at + 1]! * Math.exp(statistics[at]! - largest))
    const total = parts.reduce((sum, part) => sum + part, 0)
    if (total === 0) continue
    for (const [c, part] of parts.entries()) weights[Math.floor(row / rowsPerBlock)]![c]! += part / total
  }
  return weights
}
