import type { Reference } from '@sparse-attention/testing'

/** Every block of 128 tokens: dense attention as a plan reads back. */
export const denseReference: Reference = ({ batch, queryHeads, queryLength, keyLength }) => ({
  blockQ: 128,
  blockK: 128,
  kept: new Uint8Array(batch * queryHeads * Math.ceil(queryLength / 128) * Math.ceil(keyLength / 128)).fill(1),
})
