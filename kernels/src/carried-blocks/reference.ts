import { type BlockGeometry, blockGrid } from '@sparse-attention/core'
import type { ForcedTokens } from './carried-blocks.js'

/** The plan that `carriedBlocks` makes of what is carried; nothing carried: every block. */
export function carriedBlocksReference(
  geometry: BlockGeometry,
  carried: Uint32Array | undefined,
  { firstTokens = 0, lastTokens = 0, lastRows = 0 }: ForcedTokens,
): Uint32Array {
  const { queryBlocks, keyBlocks, wordsPerRow } = blockGrid(geometry)
  const { batch, queryHeads, queryLength, keyLength, blockQ, blockK } = geometry
  const plan = new Uint32Array(batch * queryHeads * queryBlocks * wordsPerRow)
  for (let row = 0; row < batch * queryHeads * queryBlocks; row++) {
    const lastRow = Math.min(((row % queryBlocks) + 1) * blockQ, queryLength) - 1
    for (let c = 0; c < keyBlocks; c++) {
      const at = row * wordsPerRow + (c >> 5)
      const lastKey = Math.min((c + 1) * blockK, keyLength) - 1
      const kept = carried === undefined || ((carried[at]! >>> (c & 31)) & 1) === 1
      const forced = c * blockK < firstTokens || lastKey >= keyLength - lastTokens || lastRow >= queryLength - lastRows
      if (kept || forced) plan[at]! |= 1 << (c & 31)
    }
  }
  return plan
}
