/** Rows of contiguous [heads, length, headDim] values of one batch entry, ordered per group of heads; −1 gives zeros. */
export function permuteRowsReference(
  values: ArrayLike<number>,
  { length, headDim, xGroup, orderGroup }: { length: number; headDim: number; xGroup: number; orderGroup: number },
  order: readonly (readonly number[])[],
): number[] {
  const out: number[] = []
  for (let head = 0; head < order.length * orderGroup; head++) {
    for (const row of order[Math.floor(head / orderGroup)]!) {
      const first = (Math.floor(head / xGroup) * length + row) * headDim
      for (let d = 0; d < headDim; d++) out.push(row < 0 ? 0 : values[first + d]!)
    }
  }
  return out
}
