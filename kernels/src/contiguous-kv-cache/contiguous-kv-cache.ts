import {
  bytesPerElement,
  type ContiguousKVCache,
  type ErrorCode,
  type Kernel,
  type KVCacheConfig,
  type OwnedTensor,
  type Runtime,
  SparseAttentionError,
  type Tensor,
  tensorView,
  validateNewTokens,
  whenAllocated,
} from '@sparse-attention/core'
import { bindTensor } from '../shared/bind.js'
import { addressValues, packUniforms } from '../shared/uniforms.js'
import { appendRowsUniforms, emitAppendRows } from './emit.js'

const MAX_WORKGROUPS = 65535

/**
 * A KV cache in two buffers of [batch, kvHeads, capacity, headDim], allocated once.
 *
 * Cost of `append`: the new tokens read and written once, whatever the cache holds.
 *
 * @throws INVALID_ARGUMENT, INVALID_DTYPE, INVALID_SHAPE for sizes that are none; LIMIT_EXCEEDED when the device cannot
 *   bind the buffers, OUT_OF_MEMORY when it has no memory for them
 */
export async function contiguousKVCache(runtime: Runtime, given: KVCacheConfig): Promise<ContiguousKVCache> {
  const config = { batch: 1, ...given }
  checkConfig(runtime, config)
  const kernel = await runtime.kernel(emitAppendRows())
  return whenAllocated(runtime.device, new Cache(runtime, config, kernel))
}

class Cache implements ContiguousKVCache {
  readonly layout = 'contiguous'
  readonly #k: OwnedTensor
  readonly #v: OwnedTensor
  #length = 0
  #disposed = false

  constructor(
    private readonly runtime: Runtime,
    readonly config: Required<KVCacheConfig>,
    private readonly kernel: Kernel,
  ) {
    const { batch, kvHeads, capacity, headDim, dtype } = config
    this.#k = runtime.tensor(dtype, [batch, kvHeads, capacity, headDim])
    try {
      this.#v = runtime.tensor(dtype, [batch, kvHeads, capacity, headDim])
    } catch (error) {
      this.#k.dispose()
      throw error
    }
  }

  get buffers(): readonly GPUBuffer[] {
    return [this.#k.buffer, this.#v.buffer]
  }

  get length(): number {
    return this.#length
  }

  get capacity(): number {
    return this.config.capacity
  }

  append(encoder: GPUCommandEncoder, k: Tensor, v: Tensor): void {
    this.#assertUsable()
    const count = this.#check(k, v)
    const pass = encoder.beginComputePass()
    this.#copy(pass, k, this.#k, count)
    this.#copy(pass, v, this.#v, count)
    pass.end()
    this.#length += count
  }

  keys(): Tensor {
    return this.#held(this.#k)
  }

  values(): Tensor {
    return this.#held(this.#v)
  }

  truncate(length: number): void {
    if (!Number.isSafeInteger(length) || length < 0 || length > this.#length) {
      throw refusal(
        'INVALID_ARGUMENT',
        'length',
        `A cache of ${this.#length} tokens cannot be cut to ${length}.`,
        `Use an integer from 0 to ${this.#length}.`,
      )
    }
    this.#length = length
  }

  reset(): void {
    this.#length = 0
  }

  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.#length = 0
    this.#k.dispose()
    this.#v.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  #assertUsable(): void {
    this.runtime.assertUsable()
    if (this.#disposed) throw refusal('DISPOSED', 'cache', 'The KV cache is disposed.', 'Make a new one.')
  }

  #held({ buffer, dtype, strides }: Tensor): Tensor {
    this.#assertUsable()
    const { batch, kvHeads, headDim } = this.config
    return tensorView(buffer, dtype, [batch, kvHeads, this.#length, headDim], { strides })
  }

  /** How many tokens these are, if they fit. */
  #check(k: Tensor, v: Tensor): number {
    const { batch, capacity } = this.config
    const count = validateNewTokens(k, v, this.config, batch, [this.#k.buffer, this.#v.buffer])
    if (this.#length + count > capacity) {
      throw refusal(
        'LIMIT_EXCEEDED',
        'k',
        `${count} more tokens do not fit a KV cache that holds ${this.#length} of at most ${capacity}.`,
        'Make a cache with a larger capacity, or truncate or reset this one.',
      )
    }
    return count
  }

  #copy(pass: GPUComputePassEncoder, from: Tensor, to: Tensor, rows: number): void {
    const { batch, kvHeads, capacity, headDim, dtype } = this.config
    const bound = bindTensor(from)
    const units = (headDim * bytesPerElement[dtype]) / 16
    const uniforms = packUniforms(appendRowsUniforms, {
      ...addressValues('from', bound),
      rows,
      units,
      head_stride: capacity * units,
      batch_stride: kvHeads * capacity * units,
      start: this.#length * units,
    })
    const slices = [
      this.runtime.uniforms.get(uniforms),
      bound.slice,
      { buffer: to.buffer, offsetBytes: 0, sizeBytes: to.buffer.size },
    ]
    const entries = slices.map(({ buffer, offsetBytes, sizeBytes }, binding) => ({
      binding,
      resource: { buffer, offset: offsetBytes, size: sizeBytes },
    }))
    pass.setPipeline(this.kernel.pipeline)
    pass.setBindGroup(0, this.runtime.device.createBindGroup({ layout: this.kernel.bindGroupLayout, entries }))
    pass.dispatchWorkgroups(Math.min(MAX_WORKGROUPS, Math.ceil((rows * units) / 64)), kvHeads, batch)
  }
}

function checkConfig(runtime: Runtime, { batch, kvHeads, headDim, dtype, capacity }: Required<KVCacheConfig>): void {
  for (const [name, value, most] of [
    ['batch', batch, MAX_WORKGROUPS],
    ['kvHeads', kvHeads, MAX_WORKGROUPS],
    ['capacity', capacity, 2 ** 31],
  ] as const) {
    if (!Number.isSafeInteger(value) || value < 1 || value > most) {
      throw refusal('INVALID_ARGUMENT', name, `${name} is ${value}.`, `Use an integer from 1 to ${most}.`)
    }
  }
  if (!Number.isSafeInteger(headDim) || headDim < 8 || headDim > 256 || headDim % 8 !== 0) {
    throw refusal('INVALID_ARGUMENT', 'headDim', `headDim is ${headDim}.`, 'Use a multiple of 8 up to 256.')
  }
  if (!Object.hasOwn(bytesPerElement, dtype)) {
    throw refusal('INVALID_DTYPE', 'dtype', `dtype is '${String(dtype)}'.`, "Use 'f32' or 'f16'.")
  }
  const sizeBytes = batch * kvHeads * capacity * headDim * bytesPerElement[dtype]
  const { maxStorageBufferBindingSize } = runtime.device.limits
  if (sizeBytes > maxStorageBufferBindingSize) {
    throw refusal(
      'LIMIT_EXCEEDED',
      'capacity',
      `Keys of ${capacity} tokens take ${sizeBytes} bytes, one binding may have ${maxStorageBufferBindingSize}.`,
      'Use a smaller capacity, or a device with a larger maxStorageBufferBindingSize.',
    )
  }
}

function refusal(code: ErrorCode, where: string, message: string, fix: string): SparseAttentionError {
  return new SparseAttentionError(code, { message, fix, where })
}
