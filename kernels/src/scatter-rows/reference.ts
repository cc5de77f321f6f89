/** Rows of contiguous [length, headDim] values of one head at the places that an order names; `out` keeps what it does not. */
export function scatterRowsReference<T extends Float32Array | Float64Array>(
  values: ArrayLike<number>,
  headDim: number,
  order: ArrayLike<number>,
  out: T,
): T {
  for (let i = 0; i < order.length; i++) {
    const row = order[i]!
    if (row < 0 || row >= order.length) continue
    for (let d = 0; d < headDim; d++) out[row * headDim + d] = values[i * headDim + d]!
  }
  return out
}
