import type { BufferSlice } from '@sparse-attention/core'

export type KeyBits = 4 | 8

/**
 * Keys as `quantizeKeys` packs them and `quantizedScores` reads them, in a cache that new tokens are added to. Element d of
 * a token is zero + scale · n, with n the unsigned integer in bits d % (32 / bits) · bits … of word ⌊d · bits / 32⌋: the
 * first element lies in the lowest bits.
 */
export interface QuantizedKeys {
  /** u32 [B·Hkv, capacity, D · bits / 32] */
  readonly packed: BufferSlice
  /** u32 [B·Hkv, capacity]: two halves, scale in the low one and zero in the high one */
  readonly scales: BufferSlice
  /** Tokens that there is room for, per batch entry and KV head. */
  readonly capacity: number
}

/** Bytes of `packed` and `scales`: of keys in f32, an eighth at 4 bits and a quarter at 8, and 4 bytes a token. */
export function quantizedKeyBytes(
  { bits, headDim }: { readonly bits: KeyBits; readonly headDim: number },
  kvHeads: number,
  capacity: number,
): { packed: number; scales: number } {
  const tokens = kvHeads * capacity
  return { packed: (tokens * headDim * bits) / 8, scales: tokens * 4 }
}
