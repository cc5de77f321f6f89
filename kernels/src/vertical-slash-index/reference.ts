/**
 * Tiles of 64 keys and single columns of the row block whose rows lie at positions [end − 64, end), from a head's verticals
 * and slashes in any order: slash o asks for keys [end − 64 − o, end − o), shifted up to start at 0; runs of such tiles that
 * overlap or touch are covered from the first of them on, tile by tile.
 */
export function verticalSlashIndexReference(
  verticals: readonly number[],
  slashes: readonly number[],
  end: number,
): { tiles: number[]; columns: number[] } {
  const ends = slashes.filter((o) => o < end).map((o) => Math.max(end - o, 64))
  ends.sort((a, b) => a - b)
  const tiles: number[] = []
  for (const tileEnd of ends) {
    const covered = tiles.length > 0 ? tiles[tiles.length - 1]! + 64 : undefined
    if (covered === undefined || tileEnd > covered + 64) tiles.push(tileEnd - 64)
    else if (tileEnd > covered) tiles.push(covered)
  }
  const inTile = (key: number) => tiles.some((first) => key >= first && key < first + 64)
  const columns = verticals.filter((key) => key < end && !inTile(key)).sort((a, b) => a - b)
  return { tiles, columns }
}
