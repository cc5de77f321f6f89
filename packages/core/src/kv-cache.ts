import type { Dispatch } from './dispatch.js'
import type { Runtime } from './runtime.js'
import type { BufferSlice, DType, Tensor } from './tensor.js'

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

/** Which sequences an append adds to. */
export interface AppendOptions {
  /** Sequences in the order of the batch of k and v, each at most once. Default: all of them. */
  readonly sequences?: readonly number[]
}

/**
 * A cache whose tokens lie in pages of `pageSize` from a pool that caches share, so that sequences of a batch differ in length,
 * forks share what they have in common, and what one sequence frees another takes. Attentions made with that `pageSize`
 * read it as it stands: `attention.run({ q, cache })`.
 */
export interface PagedKVCache extends KVCache {
  readonly layout: 'paged'
  readonly runtime: Runtime
  /** Tokens of a page. */
  readonly pageSize: number
  /** Tokens of each sequence; `length` is the largest. */
  readonly lengths: readonly number[]
  /**
   * As of every cache, and for some sequences only: k is [sequences, Hkv, n, D] then.
   *
   * @throws LIMIT_EXCEEDED also when the pool has too few free pages
   */
  append(encoder: GPUCommandEncoder, k: Tensor, v: Tensor, options?: AppendOptions): void
  /** Cuts one sequence, or all that are longer. What comes to lie before `length` in another's fork stays there. */
  truncate(length: number, sequence?: number): void
  /**
   * A cache of the same pool whose i-th sequence begins as `sequences[i]` of this one; default: all, in order. No token is copied:
   * pages are shared, and a page that is shared and not full is copied when one of its owners appends to it.
   * Records the copy of its table into the encoder.
   */
  fork(encoder: GPUCommandEncoder, sequences?: readonly number[]): PagedKVCache
  /**
   * What an attention binds, and dispatches that have to run before it reads the table. For methods and engines of one's own.
   *
   * @throws DISPOSED
   */
  view(): PagedView
}

/** Keys and values of a pool, [1, Hkv, pages · pageSize, D] each, and which pages a batch has in it. */
export interface PagedView {
  readonly k: Tensor
  readonly v: Tensor
  readonly pages: KeyPages
  readonly dispatches: readonly Dispatch[]
}

/** Where the keys of a batch of sequences lie, and what is known of their pages. */
export interface KeyPages {
  /** Tokens of a page. Token t of a sequence is row t % pageSize of its page ⌊t / pageSize⌋. */
  readonly pageSize: number
  /** u32[B, 1 + width]: the number of keys of each sequence, then its pages in the pool. What lies past them is undefined. */
  readonly table: BufferSlice
  /** Pages that a row of the table has room for. */
  readonly width: number
  /** Pages of the pool: what is kept of pages is [Hkv, poolPages, …], of one KV head after another. */
  readonly poolPages: number
  /** What the pool keeps of its pages besides keys and values, by the name under which it was asked for. */
  readonly metadata: Readonly<Record<string, readonly BufferSlice[]>>
}
