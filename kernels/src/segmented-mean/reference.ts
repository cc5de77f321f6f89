/** Means in float64 of groups of rows of contiguous [length, headDim] values; empty groups keep what `means` holds. */
export function segmentedMeanReference(
  values: ArrayLike<number>,
  headDim: number,
  groups: readonly (readonly number[])[],
  means: Float64Array,
): Float64Array {
  const result = Float64Array.from(means)
  groups.forEach((rows, group) => {
    if (rows.length === 0) return
    for (let d = 0; d < headDim; d++) {
      let sum = 0
      for (const row of rows) sum += values[row * headDim + d]!
      result[group * headDim + d] = sum / rows.length
    }
  })
  return result
}
