import { type KVCache, type KVCacheConfig, type Runtime, SparseAttentionError } from '@sparse-attention/core'
import { contiguousKVCache } from '@sparse-attention/kernels'
import type { Tensor } from 'onnxruntime-web'
import type { Ort } from './ort.js'
import { shapeInput, shapeTensor } from './shape-inputs.js'
import type { CachedAttention } from './with-cache.js'

export interface ModelCacheOptions {
  /** Tokens of each sequence that fit: prompt and answer together. Allocated at once. */
  readonly capacity: number
  /** Sequences, all of one length. Default 1. */
  readonly batch?: number
  /**
   * Makes the memory of one layer. Default: `contiguousKVCache`. With one whose tokens lie in pages, a prompt without
   * a past is read from its own keys, and everything after it from the pages, by `dense` where the method cannot.
   */
  readonly kvCache?: (runtime: Runtime, config: Required<KVCacheConfig>) => KVCache | Promise<KVCache>
}

/**
 * Keys and values of the tokens that a model has seen, for all of its layers, on the GPU. Made by `AttentionModel.createCache`,
 * filled by `run`. A run that fails or is cancelled leaves it as it was.
 */
export class ModelCache implements Disposable {
  readonly #layers: ReadonlyMap<number, { readonly attention: CachedAttention; readonly cache: KVCache }>
  #length = 0
  /** Ids of the tokens held, by position; nothing where others than `generate` have fed them. */
  readonly #ids: number[] = []
  #unread: readonly number[] = []
  #busy = false
  #disposed = false

  private constructor(
    /** @internal The attentions of the model that it belongs to. */
    readonly owner: readonly CachedAttention[],
    readonly batch: number,
    readonly capacity: number,
    layers: readonly KVCache[],
  ) {
    this.#layers = new Map(owner.map((attention, i) => [attention.found.node.layer, { attention, cache: layers[i]! }]))
  }

  /** @internal */
  static async create(
    runtime: Runtime,
    attentions: readonly CachedAttention[],
    { batch = 1, capacity, kvCache = contiguousKVCache }: ModelCacheOptions,
  ): Promise<ModelCache> {
    const layers: KVCache[] = []
    try {
      for (const { kvHeads, headDim, dtype } of attentions) {
        layers.push(await kvCache(runtime, { batch, kvHeads, headDim, dtype, capacity }))
      }
    } catch (error) {
      for (const layer of layers) layer.dispose()
      throw error
    }
    return new ModelCache(attentions, batch, capacity, layers)
  }

  /** Tokens held, of each sequence. */
  get length(): number {
    return this.#length
  }

  /**
   * Forgets the tokens from `length` on. Not while a run is under way.
   *
   * @throws INVALID_ARGUMENT for a length that is not 0 to `this.length`
   */
  truncate(length: number): void {
    if (!Number.isSafeInteger(length) || length < 0 || length > this.#length) {
      throw new SparseAttentionError('INVALID_ARGUMENT', {
        message: `A cache of ${this.#length} tokens cannot be cut to ${length}.`,
        fix: `Use an integer from 0 to ${this.#length}.`,
        where: 'length',
      })
    }
    this.#length = length
    this.#ids.length = Math.min(this.#ids.length, length)
    this.#unread = []
  }

  /** Forgets all tokens, and keeps the memory. Not while a run is under way. */
  reset(): void {
    this.truncate(0)
  }

  /** Frees the memory. May be called twice; not while a run is under way. */
  dispose(): void {
    this.#disposed = true
    for (const { cache } of this.#layers.values()) cache.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  /** @internal Tokens that `generate` has written, and the model has not read yet: they come before the next prompt. */
  get unread(): readonly number[] {
    return this.#unread
  }

  set unread(tokens: readonly number[]) {
    this.#unread = tokens
  }

  /** @internal Ids of the tokens that `generate` has read into it. */
  get knownTokens(): readonly number[] {
    // Without the holes.
    return this.#ids.filter(() => true)
  }

  /** @internal The tokens that were read last were these. */
  remember(ids: readonly number[]): void {
    const first = this.#length - ids.length
    for (const [i, id] of ids.entries()) this.#ids[first + i] = id
  }

  /**
   * @internal Keeps other generations out until what it returns is called.
   *
   * @throws BUSY, DISPOSED
   */
  claim(): () => void {
    this.#assertUsable()
    if (this.#busy) {
      throw new SparseAttentionError('BUSY', {
        message: 'Another generation is under way on this cache.',
        fix: 'Wait until its iterator is at its end, or make a second cache.',
        where: 'cache',
      })
    }
    this.#busy = true
    return () => {
      this.#busy = false
    }
  }

  #assertUsable(): void {
    if (!this.#disposed) return
    throw new SparseAttentionError('DISPOSED', {
      message: 'The cache is disposed.',
      fix: 'Make a new one with createCache.',
      where: 'cache',
    })
  }

  /** @internal The cache of an attention; undefined for one that has no past. */
  layer(layer: number): KVCache | undefined {
    return this.#layers.get(layer)?.cache
  }

  /**
   * @internal Forgets what a failed run has left, and tells the graph the shapes of the past.
   *
   * @throws DISPOSED
   */
  begin(ort: Ort): Record<string, Tensor> {
    this.#assertUsable()
    const shapes: Record<string, Tensor> = {}
    for (const { attention, cache } of this.#layers.values()) {
      cache.truncate(this.#length)
      const shape = shapeTensor(ort, [this.batch, attention.kvHeads, this.#length, attention.headDim])
      for (const past of [attention.pastKey, attention.pastValue]) shapes[shapeInput(past)] = shape
    }
    return shapes
  }

  /** @internal Keeps what the run has added. */
  commit(): void {
    const lengths = [...this.#layers.values()].map(({ cache }) => cache.length)
    // Outputs that are asked for may leave layers out; such a run adds nothing.
    this.#length = Math.min(...lengths)
    this.#unread = []
  }
}
