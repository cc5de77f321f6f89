/** The sum of the elements before each, modulo 2^32. */
export function exclusiveScanReference(values: ArrayLike<number>): Uint32Array {
  const sums = new Uint32Array(values.length)
  for (let i = 1; i < values.length; i++) sums[i] = sums[i - 1]! + values[i - 1]!
  return sums
}
