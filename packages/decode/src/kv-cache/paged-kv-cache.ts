import {
  type AppendOptions,
  allocateBuffer,
  type Dispatch,
  type KeyPages,
  type KVCacheConfig,
  type PagedKVCache,
  type PagedView,
  type Runtime,
  recordDispatches,
  type Tensor,
  validateNewTokens,
  whenAllocated,
} from '@sparse-attention/core'
import { checkCount, type PagePool, type PagePoolConfig, pagePool, refusal } from './page-pool.js'

/** A cache on a pool of its own: `capacity` tokens of each sequence always fit. */
export interface OwnPool extends KVCacheConfig, Pick<PagePoolConfig, 'pageSize' | 'metadata'> {
  /** Pages of the pool. Default: as many as all sequences may take. */
  readonly pages?: number
}

/** A cache on a pool that others share, and of its shape. */
export interface SharedPool extends Pick<KVCacheConfig, 'batch' | 'capacity'> {
  readonly pool: PagePool
}

/**
 * A KV cache in pages: sequences of a batch differ in length, forks share their past, and pages that are freed are taken again.
 * A page table on the GPU says where each sequence lies; attentions made with the same `pageSize` read it as it stands.
 *
 * Memory is the pool's, and a table of 4 · batch · (1 + ⌈capacity / pageSize⌉) bytes. Cost of `append`: the new tokens read and
 * written once; of metadata, those of the pages that they lie in.
 *
 * @throws INVALID_ARGUMENT, INVALID_DTYPE for sizes that are none; LIMIT_EXCEEDED when the device cannot bind the pool,
 *   OUT_OF_MEMORY when it has no memory for it; DISPOSED, WRONG_RUNTIME for a pool that cannot be used
 */
export async function pagedKVCache(runtime: Runtime, given: OwnPool | SharedPool): Promise<PagedKVCache> {
  const { batch = 1, capacity } = given
  checkCount('batch', batch, 65535)
  checkCount('capacity', capacity, 2 ** 31)
  if ('pool' in given) {
    given.pool.assertUsable()
    if (given.pool.runtime !== runtime)
      throw refusal('WRONG_RUNTIME', 'pool', 'The pool belongs to another runtime.', 'Make it with this one.')
    return whenAllocated(runtime.device, new Cache(given.pool, batch, capacity, { count: Number.POSITIVE_INFINITY }))
  }
  const pageSize = given.pageSize ?? 16
  const { pages = batch * Math.ceil(capacity / pageSize), kvHeads, headDim, dtype, metadata = [] } = given
  const pool = await pagePool(runtime, { pages, pageSize, kvHeads, headDim, dtype, metadata })
  try {
    return await whenAllocated(runtime.device, new Cache(pool, batch, capacity, { count: 0 }))
  } catch (error) {
    pool.dispose()
    throw error
  }
}

/** What one sequence has. */
interface Sequence {
  length: number
  /** Of the pool, in the order of its tokens. */
  readonly pages: number[]
  /** The table on the GPU has another length. */
  stale: boolean
}

class Cache implements PagedKVCache {
  readonly layout = 'paged'
  readonly runtime: Runtime
  readonly config: Required<KVCacheConfig>
  readonly pageSize: number
  readonly #sequences: readonly Sequence[]
  readonly #table: GPUBuffer
  readonly #pages: KeyPages
  #disposed = false

  /** @param users how many caches are on the pool; the last of a pool that nobody else has takes it along */
  constructor(
    private readonly pool: PagePool,
    batch: number,
    capacity: number,
    private readonly users: { count: number },
  ) {
    const { kvHeads, headDim, dtype, pageSize, pages } = pool.config
    this.runtime = pool.runtime
    this.pageSize = pageSize
    this.config = { batch, kvHeads, headDim, dtype, capacity }
    this.#sequences = Array.from({ length: batch }, () => ({ length: 0, pages: [], stale: false }))
    const width = Math.min(Math.ceil(capacity / pageSize), pages)
    const size = batch * (width + 1) * 4
    // Zeros: every sequence is empty.
    this.#table = allocateBuffer(this.runtime.device, { label: 'page table', size, usage: 0x80 | 0x04 | 0x08 })
    const table = { buffer: this.#table, offsetBytes: 0, sizeBytes: size }
    this.#pages = { pageSize, table, width, poolPages: pages, metadata: pool.metadata }
    users.count++
  }

  get buffers(): readonly GPUBuffer[] {
    return [this.#table]
  }

  get length(): number {
    return this.#sequences.reduce((most, { length }) => Math.max(most, length), 0)
  }

  get lengths(): readonly number[] {
    return this.#sequences.map(({ length }) => length)
  }

  get capacity(): number {
    return this.config.capacity
  }

  append(encoder: GPUCommandEncoder, k: Tensor, v: Tensor, options: AppendOptions = {}): void {
    this.#assertUsable()
    const indices = options.sequences ?? this.#sequences.map((_, n) => n)
    const rows = this.#check(k, v, indices)
    this.#checkRoom(indices, rows)

    const dispatches: Dispatch[] = []
    for (const index of indices) {
      const sequence = this.#sequences[index]!
      dispatches.push(...this.#ownLastPage(encoder, index, sequence))
      const held = sequence.pages.length
      sequence.length += rows
      while (sequence.pages.length * this.pageSize < sequence.length) sequence.pages.push(this.pool.allocator.take())
      this.#writePages(encoder, index, sequence.pages, held)
      this.#writeLength(encoder, index, sequence.length)
      sequence.stale = false
    }
    for (const { first, count, firstSequence } of consecutive(indices)) {
      dispatches.push(
        ...this.pool.append(this.#pages, { k: part(k, first, count), v: part(v, first, count), firstSequence }),
      )
    }
    recordDispatches(this.runtime.device, encoder, dispatches)
  }

  truncate(length: number, sequence?: number): void {
    this.#assertUsable()
    if (sequence !== undefined) this.#checkSequence(sequence)
    const held = sequence === undefined ? this.length : this.#sequences[sequence]!.length
    if (!Number.isSafeInteger(length) || length < 0 || length > held) {
      throw refusal(
        'INVALID_ARGUMENT',
        'length',
        `${sequence === undefined ? 'A cache' : 'A sequence'} of ${held} tokens cannot be cut to ${length}.`,
        `Use an integer from 0 to ${held}.`,
      )
    }
    for (const [n, entry] of this.#sequences.entries()) {
      if ((sequence !== undefined && n !== sequence) || entry.length <= length) continue
      entry.length = length
      entry.stale = true
      for (const page of entry.pages.splice(Math.ceil(length / this.pageSize))) this.pool.allocator.release(page)
    }
  }

  reset(): void {
    this.truncate(0)
  }

  fork(encoder: GPUCommandEncoder, sequences: readonly number[] = this.#sequences.map((_, n) => n)): PagedKVCache {
    this.#assertUsable()
    for (const sequence of sequences) this.#checkSequence(sequence)
    checkCount('sequences', sequences.length, 65535)
    const fork = new Cache(this.pool, sequences.length, this.capacity, this.users)
    const stride = (this.#pages.width + 1) * 4
    for (const [to, from] of sequences.entries()) {
      const { length, pages } = this.#sequences[from]!
      for (const page of pages) this.pool.allocator.share(page)
      fork.#sequences[to]!.length = length
      fork.#sequences[to]!.pages.push(...pages)
      if (pages.length > 0) {
        encoder.copyBufferToBuffer(this.#table, from * stride + 4, fork.#table, to * stride + 4, pages.length * 4)
      }
      fork.#writeLength(encoder, to, length)
    }
    return fork
  }

  view(): PagedView {
    this.#assertUsable()
    const dispatches = this.#sequences.flatMap(({ stale, length }, n) =>
      stale ? [this.pool.setLength(this.#pages, n, length)] : [],
    )
    return { k: this.pool.k, v: this.pool.v, pages: this.#pages, dispatches }
  }

  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    for (const sequence of this.#sequences) {
      for (const page of sequence.pages.splice(0)) this.pool.allocator.release(page)
      sequence.length = 0
    }
    this.#table.destroy()
    if (--this.users.count === 0) this.pool.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  #assertUsable(): void {
    if (this.#disposed) throw refusal('DISPOSED', 'cache', 'The KV cache is disposed.', 'Make a new one.')
    this.pool.assertUsable()
  }

  /** A last page that has room and other owners is copied, so that what is appended is nobody else's. */
  #ownLastPage(encoder: GPUCommandEncoder, index: number, { length, pages }: Sequence): readonly Dispatch[] {
    const shared = pages[pages.length - 1]
    if (shared === undefined || length % this.pageSize === 0 || this.pool.allocator.owners(shared) === 1) return []
    const own = this.pool.allocator.take()
    this.pool.allocator.release(shared)
    pages[pages.length - 1] = own
    this.#writePages(encoder, index, pages, pages.length - 1)
    return this.pool.copyPage(shared, own)
  }

  /** Copies the numbers of pages from the `first`-th on into the table, those that follow one another at once. */
  #writePages(encoder: GPUCommandEncoder, index: number, pages: readonly number[], first: number): void {
    const row = index * (this.#pages.width + 1) + 1
    for (let n = first; n < pages.length; ) {
      let count = 1
      while (n + count < pages.length && pages[n + count] === pages[n]! + count) count++
      encoder.copyBufferToBuffer(this.pool.numbers, pages[n]! * 4, this.#table, (row + n) * 4, count * 4)
      n += count
    }
  }

  #writeLength(encoder: GPUCommandEncoder, index: number, length: number): void {
    encoder.copyBufferToBuffer(this.pool.numbers, length * 4, this.#table, index * (this.#pages.width + 1) * 4, 4)
  }

  /** Checks that new tokens are the cache's. Returns how many each sequence gets. */
  #check(k: Tensor, v: Tensor, indices: readonly number[]): number {
    for (const index of indices) this.#checkSequence(index)
    if (new Set(indices).size < indices.length || indices.length === 0) {
      const fix = 'Name at least one, and each once.'
      throw refusal('INVALID_ARGUMENT', 'sequences', `sequences is [${indices}].`, fix)
    }
    return validateNewTokens(k, v, this.config, indices.length, [this.pool.k.buffer, this.pool.v.buffer])
  }

  #checkSequence(index: number): void {
    if (Number.isSafeInteger(index) && index >= 0 && index < this.config.batch) return
    const fix = `Use an integer from 0 to ${this.config.batch - 1}.`
    throw refusal('INVALID_ARGUMENT', 'sequence', `The cache has no sequence ${index}.`, fix)
  }

  /** Everything that an append will take is there, before it takes any of it. */
  #checkRoom(indices: readonly number[], rows: number): void {
    const { capacity } = this.config
    const { allocator } = this.pool
    const owners = new Map<number, number>()
    let needed = 0
    for (const index of indices) {
      const { length, pages } = this.#sequences[index]!
      if (length + rows > capacity) {
        throw refusal(
          'LIMIT_EXCEEDED',
          'k',
          `${rows} more tokens do not fit a sequence that holds ${length} of at most ${capacity}.`,
          'Make a cache with a larger capacity, or truncate or reset this one.',
        )
      }
      needed += Math.ceil((length + rows) / this.pageSize) - pages.length
      const last = pages[pages.length - 1]
      if (last === undefined || length % this.pageSize === 0) continue
      const others = owners.get(last) ?? allocator.owners(last)
      if (others > 1) {
        needed++
        owners.set(last, others - 1)
      }
    }
    if (needed > allocator.free) {
      throw refusal(
        'LIMIT_EXCEEDED',
        'pages',
        `The tokens need ${needed} pages more, the pool of ${allocator.pages} has ${allocator.free} free.`,
        'Make a pool with more pages, or truncate, reset or dispose of caches.',
      )
    }
  }
}

/** Sequences [first, first + count) of a batch of new tokens. */
function part(tensor: Tensor, first: number, count: number): Tensor {
  const { buffer, dtype, shape, strides, offset } = tensor
  return { buffer, dtype, shape: [count, ...shape.slice(1)], strides, offset: offset + first * strides[0]! }
}

/** Runs of sequences that follow one another, in the batch and in the cache. */
function consecutive(
  indices: readonly number[],
): readonly { readonly first: number; readonly count: number; readonly firstSequence: number }[] {
  const runs: { first: number; count: number; firstSequence: number }[] = []
  for (const [n, index] of indices.entries()) {
    const last = runs[runs.length - 1]
    if (last && index === last.firstSequence + last.count) last.count++
    else runs.push({ first: n, count: 1, firstSequence: index })
  }
  return runs
}
