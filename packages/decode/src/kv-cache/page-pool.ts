import {
  allocateBuffers,
  type BufferSlice,
  bytesPerElement,
  type Dispatch,
  type DType,
  type ErrorCode,
  type KeyPages,
  type OwnedTensor,
  type Runtime,
  SparseAttentionError,
  whenAllocated,
} from '@sparse-attention/core'
import {
  type AppendPages,
  appendPages,
  type CopyPage,
  copyPage,
  type NewTokens,
  type SetLength,
  setLength,
} from '@sparse-attention/kernels'
import type { PageMetadata, PageShape, UpdateMetadata } from './metadata.js'
import { PageAllocator } from './page-allocator.js'

/** Fixed when a pool is made. */
export interface PagePoolConfig {
  readonly kvHeads: number
  /** Multiple of 8, at most 256. */
  readonly headDim: number
  readonly dtype: DType
  /** Pages of all sequences together. All of their memory is allocated at once, and never moved. */
  readonly pages: number
  /** Tokens of a page: 16, 32 or 64. Default 16. */
  readonly pageSize?: number
  /** What is kept of each page besides keys and values, e.g. `[pageBounds, quantizedKeys(4)]`. Default: nothing. */
  readonly metadata?: readonly PageMetadata[]
}

const STORAGE_COPY = 0x80 | 0x04 | 0x08

/** An array of metadata: [kvHeads, pages, bytesPerPage]. */
interface MetadataArray {
  readonly slice: BufferSlice
  readonly bytesPerPage: number
}

/**
 * Pages of keys and values, shared by the caches that are made on it. Made by `pagePool`.
 */
export class PagePool implements Disposable {
  readonly config: Required<PagePoolConfig>
  readonly allocator: PageAllocator
  /** [1, Hkv, pages · pageSize, D] */
  readonly k: OwnedTensor
  readonly v: OwnedTensor
  /** u32: 0, 1, 2, … from which lengths and pages are copied into tables: no upload, in the order of the encoder. */
  readonly numbers: GPUBuffer
  readonly metadata: Readonly<Record<string, readonly BufferSlice[]>>
  readonly #arrays: readonly MetadataArray[]
  #disposed = false

  /** @internal use `pagePool` */
  constructor(
    readonly runtime: Runtime,
    config: Required<PagePoolConfig>,
    private readonly kernels: {
      readonly append: AppendPages
      readonly copy: CopyPage
      readonly setLength: SetLength
      readonly update: readonly UpdateMetadata[]
    },
  ) {
    this.config = config
    const { kvHeads, headDim, dtype, pages, pageSize } = config
    this.allocator = new PageAllocator(pages)
    const shape = [1, kvHeads, pages * pageSize, headDim]
    const { device } = runtime
    const count = pages * pageSize + 1
    const kept = config.metadata.map((each) => ({ name: each.name, bytes: each.bytesPerPage(config) }))
    const sizes = kept.flatMap(({ name, bytes }) => bytes.map((one) => ({ label: name, size: kvHeads * pages * one })))
    const tensors: OwnedTensor[] = []
    const tensor = () => {
      tensors.push(runtime.tensor(dtype, shape))
      return tensors.at(-1)!
    }
    let buffers: GPUBuffer[]
    try {
      ;[this.k, this.v] = [tensor(), tensor()]
      const all = [{ label: 'page numbers', size: count * 4 }, ...sizes]
      buffers = allocateBuffers(
        device,
        all.map((each) => ({ ...each, usage: STORAGE_COPY })),
      )
    } catch (error) {
      for (const made of tensors) made.dispose()
      throw error
    }
    this.numbers = buffers.shift()!
    device.queue.writeBuffer(
      this.numbers,
      0,
      Uint32Array.from({ length: count }, (_, n) => n),
    )
    const arrays = kept.map(({ name, bytes }) => ({
      name,
      arrays: bytes.map((one): MetadataArray => {
        const buffer = buffers.shift()!
        return { slice: { buffer, offsetBytes: 0, sizeBytes: buffer.size }, bytesPerPage: one }
      }),
    }))
    this.#arrays = arrays.flatMap((entry) => entry.arrays)
    this.metadata = Object.fromEntries(arrays.map((entry) => [entry.name, entry.arrays.map(({ slice }) => slice)]))
  }

  get freePages(): number {
    return this.allocator.free
  }

  /** Bytes of GPU memory of the pool, whatever its caches hold. */
  get bytes(): number {
    return this.buffers.reduce((sum, { size }) => sum + size, 0)
  }

  get buffers(): readonly GPUBuffer[] {
    return [this.k.buffer, this.v.buffer, this.numbers, ...this.#arrays.map(({ slice }) => slice.buffer)]
  }

  /** Dispatches that copy new tokens into their pages and bring metadata up to date. */
  append(pages: KeyPages, tokens: NewTokens): readonly Dispatch[] {
    const pools = { k: whole(this.k.buffer), v: whole(this.v.buffer) }
    return [
      this.kernels.append(pages, tokens, pools),
      ...this.kernels.update.flatMap((update, n) =>
        update(pages, this.metadata[this.config.metadata[n]!.name]!, this.k, tokens),
      ),
    ]
  }

  /** Dispatches that copy a page with all that is kept of it. */
  copyPage(from: number, to: number): readonly Dispatch[] {
    const { kvHeads, headDim, dtype, pages, pageSize } = this.config
    const rows = pageSize * headDim * bytesPerElement[dtype]
    const copied: MetadataArray[] = [
      { slice: whole(this.k.buffer), bytesPerPage: rows },
      { slice: whole(this.v.buffer), bytesPerPage: rows },
      ...this.#arrays,
    ]
    return copied.map(({ slice, bytesPerPage }) =>
      this.kernels.copy(slice, { heads: kvHeads, poolPages: pages, bytesPerPage }, from, to),
    )
  }

  setLength(pages: KeyPages, sequence: number, length: number): Dispatch {
    return this.kernels.setLength(pages, sequence, length)
  }

  assertUsable(): void {
    this.runtime.assertUsable()
    if (this.#disposed) throw refusal('DISPOSED', 'pool', 'The page pool is disposed.', 'Make a new one.')
  }

  /** Frees the memory. May be called twice. Its caches cannot be used any more. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.k.dispose()
    this.v.dispose()
    this.numbers.destroy()
    for (const { slice } of this.#arrays) slice.buffer.destroy()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}

/**
 * Memory for the pages of many sequences, and of the layers of a model that have one shape. Caches are made on it by
 * `pagedKVCache({ pool, … })`.
 *
 * @throws INVALID_ARGUMENT, INVALID_DTYPE for sizes that are none; LIMIT_EXCEEDED when the device cannot bind them, OUT_OF_MEMORY
 *   when it has no memory for them
 */
export async function pagePool(runtime: Runtime, given: PagePoolConfig): Promise<PagePool> {
  const config = { pageSize: 16, metadata: [], ...given }
  checkConfig(runtime, config)
  const shape: PageShape = config
  const [append, copy, length, ...update] = await Promise.all([
    appendPages(runtime, config),
    copyPage(runtime),
    setLength(runtime),
    ...config.metadata.map((metadata) => metadata.appended(runtime, shape)),
  ])
  return whenAllocated(runtime.device, new PagePool(runtime, config, { append, copy, setLength: length, update }))
}

function checkConfig(runtime: Runtime, config: Required<PagePoolConfig>): void {
  const { kvHeads, headDim, dtype, pages, pageSize, metadata } = config
  checkCount('kvHeads', kvHeads, 65535)
  checkCount('pages', pages, 2 ** 26)
  if (!Number.isSafeInteger(headDim) || headDim < 8 || headDim > 256 || headDim % 8 !== 0)
    throw refusal('INVALID_ARGUMENT', 'headDim', `headDim is ${headDim}.`, 'Use a multiple of 8 up to 256.')
  if (![16, 32, 64].includes(pageSize))
    throw refusal('INVALID_ARGUMENT', 'pageSize', `pageSize is ${pageSize}.`, 'Use 16, 32 or 64.')
  if (!Object.hasOwn(bytesPerElement, dtype))
    throw refusal('INVALID_DTYPE', 'dtype', `dtype is '${String(dtype)}'.`, "Use 'f32' or 'f16'.")
  if (new Set(metadata.map(({ name }) => name)).size < metadata.length)
    throw refusal('INVALID_ARGUMENT', 'metadata', 'One kind of metadata is asked for twice.', 'Name each once.')
  const most = runtime.device.limits.maxStorageBufferBindingSize
  const arrays = [
    pageSize * headDim * bytesPerElement[dtype],
    ...metadata.flatMap(({ bytesPerPage }) => bytesPerPage(config)),
  ]
  const largest = Math.max(...arrays) * kvHeads * pages
  if (largest > most) {
    throw refusal(
      'LIMIT_EXCEEDED',
      'pages',
      `${pages} pages of ${pageSize} tokens take ${largest} bytes, one binding may have ${most}.`,
      'Use fewer pages, or a device with a larger maxStorageBufferBindingSize.',
    )
  }
}

/** @internal */
export function checkCount(name: string, value: number, most: number): void {
  if (Number.isSafeInteger(value) && value >= 1 && value <= most) return
  throw refusal('INVALID_ARGUMENT', name, `${name} is ${value}.`, `Use an integer from 1 to ${most}.`)
}

/** @internal */
export function refusal(code: ErrorCode, where: string, message: string, fix: string): SparseAttentionError {
  return new SparseAttentionError(code, { message, fix, where })
}

function whole(buffer: GPUBuffer): BufferSlice {
  return { buffer, offsetBytes: 0, sizeBytes: buffer.size }
}
