/** scale · q · k̂ in float64 for the rows of one query head, [rows, D], and unpacked keys, [tokens][D]. */
export function quantizedScoresReference(
  q: ArrayLike<number>,
  keys: readonly (readonly number[])[],
  scale: number,
): number[] {
  const headDim = keys[0]!.length
  return Array.from({ length: q.length / headDim }, (_, row) =>
    keys.map((key) => key.reduce((sum, value, d) => sum + scale * value * q[row * headDim + d]!, 0)),
  ).flat()
}
