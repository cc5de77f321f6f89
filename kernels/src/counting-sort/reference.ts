/** Stable order of one segment's rows by their keys, and the place of each bin's first row. */
export function countingSortReference(keys: ArrayLike<number>, bins: number): { order: number[]; starts: number[] } {
  const rows: number[][] = Array.from({ length: bins }, () => [])
  for (let i = 0; i < keys.length; i++) rows[Math.min(keys[i]!, bins - 1)]!.push(i)
  const starts = [0]
  for (const inBin of rows) starts.push(starts.at(-1)! + inBin.length)
  return { order: rows.flat(), starts }
}
