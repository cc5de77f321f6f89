/** Merges in float64: out = Σ exp(lseₚ − lse) outₚ of [parts, rows, headDim] and [parts, rows]. */
export function mergeReference(
  out: ArrayLike<number>,
  lse: ArrayLike<number>,
  { parts, rows, headDim }: { parts: number; rows: number; headDim: number },
): { out: Float64Array; lse: Float64Array } {
  const merged = { out: new Float64Array(rows * headDim), lse: new Float64Array(rows).fill(Number.NEGATIVE_INFINITY) }
  for (let row = 0; row < rows; row++) {
    const values = Array.from({ length: parts }, (_, part) => lse[part * rows + row]!)
    const largest = Math.max(...values)
    if (largest === Number.NEGATIVE_INFINITY) continue
    const total = values.reduce((sum, value) => sum + Math.exp(value - largest), 0)
    merged.lse[row] = largest + Math.log(total)
    for (const [part, value] of values.entries()) {
      if (value === Number.NEGATIVE_INFINITY) continue
      const weight = Math.exp(value - largest) / total
      for (let d = 0; d < headDim; d++)
        merged.out[row * headDim + d]! += weight * out[(part * rows + row) * headDim + d]!
    }
  }
  return merged
}
