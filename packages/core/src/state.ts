import { allocateBuffer, isMissing } from './allocate.js'
import { SparseAttentionError } from './errors.js'
import type { AttentionFrame } from './method.js'
import type { Runtime } from './runtime.js'
import type { BufferSlice } from './tensor.js'

const STORAGE_COPY = 0x80 | 0x04 | 0x08

/**
 * What a method remembers from call to call of one video: skipped blocks, centroids, kinds of heads. Made by
 * `attention.createState()`, given with each call as `state`, owned by the caller. Conditional and unconditional branches and
 * layers are kept apart inside of it; two videos need two states, or a `reset` in between.
 */
export interface AttentionState extends Disposable {
  /** Of GPU memory held. */
  readonly sizeBytes: number
  /** Forgets everything, as if new: the next call is a first one. Memory is kept for it. */
  reset(): void
  /** Frees it. May be called twice. */
  dispose(): void
}

/** What a method's program makes for one state: usually `StateEntries`. */
export interface MethodState {
  readonly sizeBytes: number
  reset(): void
  dispose(): void
}

/** @internal `attention.createState`: a method's state, which knows whose it is. */
export class OwnedState implements AttentionState {
  #disposed = false

  constructor(
    readonly owner: object,
    readonly method: MethodState,
  ) {}

  get disposed(): boolean {
    return this.#disposed
  }

  get sizeBytes(): number {
    return this.#disposed ? 0 : this.method.sizeBytes
  }

  reset(): void {
    if (!this.#disposed) this.method.reset()
  }

  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.method.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** Memory of a state for an array, kept until the entry is reset. Contents undefined. */
export type AllocateState = (sizeBytes: number) => BufferSlice

/** An entry of a state, as one call finds it. */
export interface FoundEntry<Entry> {
  readonly entry: Entry
  /** It was made by this call: its memory holds nothing yet. */
  readonly fresh: boolean
}

/**
 * A method's state as entries: one for each layer, branch and sequence of the context. What a call's frame has not in common
 * with the frame that an entry was made for (batch, heads, lengths, head_dim, grid) makes the entry anew.
 *
 * Buffers of entries that are gone are given to those that come, and destroyed only with the state: an encoder that is not
 * submitted yet may hold them. While shapes stay, nothing is allocated.
 *
 * ```ts
 * const state = new StateEntries<{ kept: BufferSlice }>(runtime)
 * const { entry, fresh } = state.entry(frame, (allocate) => ({ kept: allocate(4 * words) }))
 * ```
 */
export class StateEntries<Entry> implements MethodState {
  readonly #runtime: Runtime
  readonly #entries = new Map<
    string,
    { readonly shape: string; readonly entry: Entry; readonly taken: BufferSlice[] }
  >()
  readonly #buffers = new Set<GPUBuffer>()
  #free: GPUBuffer[] = []

  constructor(runtime: Runtime) {
    this.#runtime = runtime
  }

  get sizeBytes(): number {
    let sum = 0
    for (const { size } of this.#buffers) sum += size
    return sum
  }

  /**
   * The entry of a call: as the call before left it, or made now.
   *
   * @param make  gets memory that belongs to the entry; may throw
   * @throws LIMIT_EXCEEDED for more memory than one binding may have
   */
  entry(frame: AttentionFrame, make: (allocate: AllocateState) => Entry): FoundEntry<Entry> {
    const { layer = 0, branch = '', sequence = '', grid = [] } = frame.context
    const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim } = frame
    const key = JSON.stringify([layer, branch, sequence])
    const shape = [batch, queryHeads, kvHeads, queryLength, keyLength, headDim, ...grid].join()
    const found = this.#entries.get(key)
    const whole = found?.taken.every(({ buffer }) => !isMissing(buffer))
    if (found?.shape === shape && whole) return { entry: found.entry, fresh: false }
    if (found) this.#drop(key)
    const taken: BufferSlice[] = []
    try {
      const entry = make((sizeBytes) => {
        const slice = this.#allocate(sizeBytes)
        taken.push(slice)
        return slice
      })
      this.#entries.set(key, { shape, entry, taken })
      return { entry, fresh: true }
    } catch (error) {
      this.#free.push(...taken.map(({ buffer }) => buffer))
      throw error
    }
  }

  reset(): void {
    for (const key of [...this.#entries.keys()]) this.#drop(key)
  }

  dispose(): void {
    this.#entries.clear()
    this.#free = []
    for (const buffer of this.#buffers) buffer.destroy()
    this.#buffers.clear()
  }

  #drop(key: string): void {
    this.#free.push(...this.#entries.get(key)!.taken.map(({ buffer }) => buffer))
    this.#entries.delete(key)
  }

  /** The smallest free buffer that is large enough, or a new one. */
  #allocate(sizeBytes: number): BufferSlice {
    const size = Math.max(16, Math.ceil(sizeBytes / 16) * 16)
    const { device } = this.#runtime
    const limit = device.limits.maxStorageBufferBindingSize
    if (size > limit) {
      throw new SparseAttentionError('LIMIT_EXCEEDED', {
        message: `The state needs an array of ${size} bytes, one binding may have ${limit}.`,
        fix: 'Split the call by batch or heads, or request a device with larger limits.',
        where: 'state',
      })
    }
    let best: GPUBuffer | undefined
    for (const buffer of this.#free.filter(isMissing)) {
      this.#buffers.delete(buffer)
      buffer.destroy()
    }
    this.#free = this.#free.filter((buffer) => !isMissing(buffer))
    for (const buffer of this.#free) if (buffer.size >= size && (!best || buffer.size < best.size)) best = buffer
    if (best) this.#free.splice(this.#free.indexOf(best), 1)
    const buffer = best ?? allocateBuffer(device, { label: 'sparse-attention state', size, usage: STORAGE_COPY })
    this.#buffers.add(buffer)
    return { buffer, offsetBytes: 0, sizeBytes: size }
  }
}
