/**
 * Tiles of 64 keys and single columns of the row block whose rows lie at positions [end − 64, end), from a head's verticals
 * and slashes in any order: slash o asks for keys [end − 64 − o, end − o). From the nearest on, the first key that is asked
 * for and not covered ends a tile. What is left of a tile that would begin before key 0 are columns.
 */
export function verticalSlashIndexReference(
  verticals: readonly number[],
  slashes: readonly number[],
  end: number,
): { tiles: number[]; columns: number[] } {
  const tiles: number[] = []
  let first = Number.POSITIVE_INFINITY // of the last tile
  for (const offset of [...slashes].sort((a, b) => a - b)) {
    if (end - 64 - offset >= first) continue
    first = Math.min(end - offset, first) - 64
    tiles.unshift(first)
  }
  const whole = tiles.filter((key) => key >= 0)
  const border = Math.max(0, ...tiles.filter((key) => key < 0).map((key) => key + 64))
  const inTile = (key: number) => key < border || whole.some((tile) => key >= tile && key < tile + 64)
  const columns = verticals.filter((key) => key < end && !inTile(key)).sort((a, b) => a - b)
  return { tiles: whole, columns: [...Array(border).keys(), ...columns] }
}
