/** Rows for which a kernel is compiled that computes so many with one read of the keys: 1, 2, 4 or 8; more take turns. */
export function rowsTogether(rows: number): number {
  return [1, 2, 4].find((size) => rows <= size) ?? 8
}
