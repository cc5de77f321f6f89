import type { Reference } from '@sparse-attention/testing'
import type { AShapeOptions } from './method.js'

const BLOCK = 64

/**
 * A-shape in plain loops (arXiv 2407.02490, §3.2): a query at position p sees key j ≤ p if j < sink or p − j < localWindow;
 * a block is kept if it holds such a pair.
 */
export const aShapeReference: Reference<AShapeOptions> = (
  { batch, queryHeads, queryLength, keyLength },
  { sink, localWindow },
) => {
  const queryBlocks = Math.ceil(queryLength / BLOCK)
  const keyBlocks = Math.ceil(keyLength / BLOCK)
  const head = new Uint8Array(queryBlocks * keyBlocks)
  for (let row = 0; row < queryLength; row++) {
    const position = row + keyLength - queryLength
    for (let j = 0; j <= position; j++) {
      if (j < sink || position - j < localWindow) head[Math.floor(row / BLOCK) * keyBlocks + Math.floor(j / BLOCK)] = 1
    }
  }
  const kept = new Uint8Array(batch * queryHeads * head.length)
  for (let h = 0; h < batch * queryHeads; h++) kept.set(head, h * head.length)
  return { blockQ: BLOCK, blockK: BLOCK, kept }
}
