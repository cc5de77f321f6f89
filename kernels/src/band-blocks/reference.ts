import type { BlockGeometry } from '@sparse-attention/core'
import type { Band } from './band-blocks.js'

/** Is key block c of query block a in the band? */
export function bandBlockReference(
  { blockQ, blockK, queryLength, keyLength }: Omit<BlockGeometry, 'batch' | 'queryHeads' | 'causal'>,
  a: number,
  c: number,
  { reach, firstKeys = 0, denseFrom = Number.POSITIVE_INFINITY }: Band,
): boolean {
  const lastRow = Math.min((a + 1) * blockQ, queryLength) - 1
  const lastKey = Math.min((c + 1) * blockK, keyLength) - 1
  return Math.abs(a - c) <= reach || c * blockK < firstKeys || lastRow >= denseFrom || lastKey >= denseFrom
}
