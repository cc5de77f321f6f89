import type { DType, Tensor } from './tensor.js'

/** Fixed when a cache is made. */
export interface KVCacheConfig {
  /** Sequences, all of one length. Default 1. */
  readonly batch?: number
  readonly kvHeads: number
  /** Multiple of 8, at most 256. */
  readonly headDim: number
  readonly dtype: DType
  /** Tokens of each sequence that fit. All of their memory is allocated at once, and never moved. */
  readonly capacity: number
}

/**
 * Keys and values of the tokens that a model has seen, so that each new token costs its own and not the prompt's again.
 *
 * What a generation loop needs is here; how an attention reads the cache depends on where it keeps its tokens, which
 * `layout` tells. B batch · Hkv KV heads · D head dim.
 */
export interface KVCache extends Disposable {
  /** Names the interface that the cache has besides this one. */
  readonly layout: string
  readonly config: Required<KVCacheConfig>
  /** Tokens held, the same for each sequence. Counts those whose appending is recorded. */
  readonly length: number
  /** `config.capacity` */
  readonly capacity: number
  /**
   * Records copies of n new tokens behind those held, into the caller's encoder. Submit encoders in the order of recording,
   * and before work that reads the tokens. Nothing is read back and nothing is allocated but uniforms.
   *
   * @param k [B, Hkv, n, D] of the cache's dtype, strided like the keys of an attention; v likewise
   * @throws LIMIT_EXCEEDED when they do not fit; INVALID_SHAPE, INVALID_DTYPE, INVALID_VIEW, BUFFER_TOO_SMALL,
   *   INVALID_ARGUMENT, DISPOSED; the cache is unchanged then
   */
  append(encoder: GPUCommandEncoder, k: Tensor, v: Tensor): void
  /**
   * Forgets the tokens from `length` on, e.g. those of a rejected draft.
   *
   * @throws INVALID_ARGUMENT for a length that is not 0 to `this.length`
   */
  truncate(length: number): void
  /** Forgets all tokens, and keeps the memory. */
  reset(): void
  /** Frees the memory. May be called twice. */
  dispose(): void
}

/** A cache whose tokens lie one behind another, so that any attention can read it as it stands. */
export interface ContiguousKVCache extends KVCache {
  readonly layout: 'contiguous'
  /**
   * A view of the tokens held: [B, Hkv, length, D], strided, valid until the cache is disposed. What is appended later is
   * not in it.
   *
   * @throws INVALID_SHAPE while the cache is empty
   */
  keys(): Tensor
  /** As `keys`. */
  values(): Tensor
}
