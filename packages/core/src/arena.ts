import { allocateBuffer, isMissing } from './allocate.js'
import { SparseAttentionError } from './errors.js'
import type { BufferSlice } from './tensor.js'

const SCRATCH = 0x80 | 0x04 | 0x08 | 0x100 // STORAGE | COPY_SRC | COPY_DST | INDIRECT

export interface ScratchLease {
  /** A buffer of at least `sizeBytes`; contents undefined. */
  allocate(sizeBytes: number): BufferSlice
  release(): void
}

/**
 * Scratch memory under a byte budget. Work on one queue runs in order, so calls that are recorded one after the other
 * may use the same buffers: a call leases buffers from the pool and puts them back when its recording ends.
 * Each allocation is a buffer of its own, because WebGPU tracks read and write use per buffer, not per range.
 */
export class Arena {
  readonly #device: GPUDevice
  readonly #budgetBytes: number
  readonly #idle: GPUBuffer[] = []
  /** Buffers that an encoder of the caller may hold, which may not be submitted yet. */
  readonly #recorded = new WeakSet<GPUBuffer>()
  #allocatedBytes = 0
  #disposed = false

  constructor(device: GPUDevice, budgetBytes: number) {
    this.#device = device
    this.#budgetBytes = budgetBytes
  }

  /** Bytes held, in use or idle. */
  get allocatedBytes(): number {
    return this.#allocatedBytes
  }

  /**
   * Takes buffers out of the pool until `release`, which may be called twice. Release when everything that uses them
   * has been recorded or submitted, whichever keeps later users behind it in the queue; `submitted` says which.
   */
  lease({ submitted }: { readonly submitted: boolean }): ScratchLease {
    if (this.#disposed) {
      throw new SparseAttentionError('DISPOSED', {
        message: 'The runtime is disposed.',
        fix: 'Create a new one.',
        where: 'runtime',
      })
    }
    let taken: GPUBuffer[] = []
    return {
      allocate: (sizeBytes) => {
        const buffer = this.#take(sizeBytes)
        taken.push(buffer)
        return { buffer, offsetBytes: 0, sizeBytes: Math.ceil(sizeBytes / 16) * 16 }
      },
      release: () => {
        if (!submitted) for (const buffer of taken) this.#recorded.add(buffer)
        // In front, in their order: the next call that allocates the same gets the same, and binds what is bound already.
        this.#idle.unshift(...taken)
        taken = []
        if (this.#disposed) this.#evict(Number.POSITIVE_INFINITY)
      },
    }
  }

  /** Frees what no call is using, such as after a long prompt. Submit what was recorded before. */
  trim(): void {
    this.#evict(Number.POSITIVE_INFINITY)
  }

  /** Destroys what is idle now, and the rest on its release. Submit what was recorded before. */
  dispose(): void {
    this.#disposed = true
    this.#evict(Number.POSITIVE_INFINITY)
  }

  #take(sizeBytes: number): GPUBuffer {
    const size = sizeClass(sizeBytes)
    const index = this.#idle.findIndex((buffer) => buffer.size === size && !isMissing(buffer))
    if (index >= 0) return this.#idle.splice(index, 1)[0]!
    const limit = Math.min(this.#device.limits.maxBufferSize, this.#device.limits.maxStorageBufferBindingSize)
    if (size > limit) {
      throw new SparseAttentionError('LIMIT_EXCEEDED', {
        message: `Scratch of ${size} bytes is above the device's ${limit} bytes for one storage binding.`,
        fix: 'Split the call by batch or heads, or request a device with larger limits.',
        where: 'maxStorageBufferBindingSize',
      })
    }
    const excess = this.#allocatedBytes + size - this.#budgetBytes
    if (excess > 0) this.#evict(excess)
    if (this.#allocatedBytes + size > this.#budgetBytes) {
      throw new SparseAttentionError('OUT_OF_MEMORY', {
        message: `Scratch of ${size} bytes does not fit the budget: ${this.#allocatedBytes} of ${this.#budgetBytes} bytes are in use.`,
        fix: 'Raise scratchBudgetBytes in createRuntime, or split the call.',
        where: 'scratchBudgetBytes',
      })
    }
    const buffer = allocateBuffer(this.#device, { label: 'sparse-attention scratch', size, usage: SCRATCH })
    this.#allocatedBytes += size
    return buffer
  }

  /**
   * Frees idle buffers, largest first. Submitted work keeps a destroyed buffer alive, an encoder not yet submitted does
   * not: what such an encoder may hold is left to the garbage collector.
   */
  #evict(bytes: number): void {
    this.#idle.sort((a, b) => a.size - b.size)
    let freed = 0
    while (freed < bytes && this.#idle.length > 0) {
      const buffer = this.#idle.pop()!
      freed += buffer.size
      this.#allocatedBytes -= buffer.size
      if (this.#disposed || !this.#recorded.has(buffer)) buffer.destroy()
    }
  }
}

/** Powers of two and their halves-between (256, 384, 512, 768 …): lengths that grow token by token reuse a buffer. */
function sizeClass(sizeBytes: number): number {
  let size = 256
  while (size < sizeBytes) size *= 2
  const between = (size / 4) * 3
  return size > 256 && sizeBytes <= between ? between : size
}
