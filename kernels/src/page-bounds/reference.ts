/** Minima, then maxima, per channel of the first `rows` keys of a page; NaN beats all. */
export function pageBoundsReference(key: (row: number, d: number) => number, rows: number, headDim: number): number[] {
  const channel = (d: number) => Array.from({ length: rows }, (_, row) => key(row, d))
  const channels = Array.from({ length: headDim }, (_, d) => channel(d))
  return [...channels.map((values) => Math.min(...values)), ...channels.map((values) => Math.max(...values))]
}
