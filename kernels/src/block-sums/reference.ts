/** Sums of square blocks of `perBlock` cells, f64 [heads, ceil(rows/perBlock), ceil(columns/perBlock)]. */
export function blockSumsReference(
  scores: ArrayLike<number>,
  heads: number,
  rows: number,
  columns: number,
  perBlock: number,
): Float64Array {
  const [blockRows, blockColumns] = [Math.ceil(rows / perBlock), Math.ceil(columns / perBlock)]
  const sums = new Float64Array(heads * blockRows * blockColumns)
  for (let h = 0; h < heads; h++) {
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const block = (h * blockRows + Math.floor(row / perBlock)) * blockColumns + Math.floor(column / perBlock)
        sums[block]! += scores[(h * rows + row) * columns + column]!
      }
    }
  }
  return sums
}
