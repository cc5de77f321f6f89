/** The place of each of `length` rows in an order, −1 for those that it does not name. */
export function inversePermutationReference(order: readonly number[], length: number): number[] {
  const inverse = new Array<number>(length).fill(-1)
  order.forEach((row, place) => {
    if (row >= 0 && row < length) inverse[row] = place
  })
  return inverse
}
