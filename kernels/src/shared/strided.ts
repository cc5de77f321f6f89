/** A matrix of scores between strided rows of queries and keys: one chunk of rows, all columns. */
export interface ScoreChunk {
  /** First strided row. */
  readonly firstRow: number
  readonly rows: number
  readonly columns: number
}

/** f32 scores [heads, rows, columns] of one chunk, where heads counts batch · query heads. */
export function chunkBytes(heads: number, chunk: Pick<ScoreChunk, 'rows' | 'columns'>): number {
  return heads * chunk.rows * chunk.columns * 4
}

/**
 * Cuts `rows` strided rows into chunks of whole blocks whose scores fit `limitBytes`, so that scratch stays bounded at
 * any length. A chunk is never smaller than one block.
 */
export function chunkRows(
  rows: number,
  columns: number,
  rowsPerBlock: number,
  heads: number,
  limitBytes: number,
): ScoreChunk[] {
  const bytesPerBlock = chunkBytes(heads, { rows: rowsPerBlock, columns })
  const mostBlocks = Math.floor(65535 / rowsPerBlock) // a dispatch has at most 65535 workgroups along an axis
  const chunk = Math.min(mostBlocks, Math.max(1, Math.floor(limitBytes / bytesPerBlock))) * rowsPerBlock
  const chunks: ScoreChunk[] = []
  for (let firstRow = 0; firstRow < rows; firstRow += chunk) {
    chunks.push({ firstRow, rows: Math.min(chunk, rows - firstRow), columns })
  }
  return chunks
}
