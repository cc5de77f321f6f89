import type { Kernel } from './dispatch.js'
import type { BufferSlice } from './tensor.js'

/** A model of 64 layers binds some 300 groups a token. */
const defaultCapacity = 1024

/**
 * Bind groups by what they bind. Making one takes the host longer than all else of a short dispatch, and a step of decoding
 * binds the same buffers token after token.
 *
 * Buffers are told apart as objects, so a group never stands for a buffer that was made later. Groups are kept for as long as
 * all of their buffers can be reached by others, and the least recently used go first where there are too many.
 */
export class BindGroupCache {
  readonly #device: GPUDevice
  readonly #capacity: number
  readonly #groups = new Map<string, Entry>()
  /** Numbers for objects, never given twice. */
  readonly #numbers = new WeakMap<object, number>()
  #lastNumber = 0
  /** Which groups bind a buffer. */
  readonly #users = new Map<number, Set<string>>()
  /** A group keeps the memory of its buffers: it must not be what remains of a buffer that everybody has dropped. */
  readonly #collected = new FinalizationRegistry<number>((buffer) => this.#forget(buffer))

  constructor(device: GPUDevice, capacity = defaultCapacity) {
    this.#device = device
    this.#capacity = capacity
  }

  /** Groups held. */
  get size(): number {
    return this.#groups.size
  }

  get({ bindGroupLayout: layout }: Kernel, bindings: readonly BufferSlice[]): GPUBindGroup {
    let key = `${this.#number(layout)}`
    for (const { buffer, offsetBytes, sizeBytes } of bindings) {
      key += `;${this.#bufferNumber(buffer)},${offsetBytes},${sizeBytes}`
    }
    const known = this.#groups.get(key)
    if (known) {
      // Re-inserted: a Map iterates in the order of insertion, oldest first.
      this.#groups.delete(key)
      this.#groups.set(key, known)
      return known.group
    }
    const group = this.#device.createBindGroup({
      layout,
      entries: bindings.map(({ buffer, offsetBytes, sizeBytes }, binding) => ({
        binding,
        resource: { buffer, offset: offsetBytes, size: sizeBytes },
      })),
    })
    if (this.#groups.size >= this.#capacity) this.#drop(this.#groups.keys().next().value!)
    const buffers = bindings.map(({ buffer }) => this.#bufferNumber(buffer))
    this.#groups.set(key, { group, buffers })
    for (const buffer of buffers) {
      const users = this.#users.get(buffer)
      if (users) users.add(key)
      else this.#users.set(buffer, new Set([key]))
    }
    return group
  }

  #number(object: object): number {
    const known = this.#numbers.get(object)
    if (known !== undefined) return known
    this.#numbers.set(object, ++this.#lastNumber)
    return this.#lastNumber
  }

  #bufferNumber(buffer: GPUBuffer): number {
    const known = this.#numbers.get(buffer)
    if (known !== undefined) return known
    const number = this.#number(buffer)
    this.#collected.register(buffer, number)
    return number
  }

  #drop(key: string): void {
    for (const buffer of this.#groups.get(key)?.buffers ?? []) {
      const users = this.#users.get(buffer)
      users?.delete(key)
      if (users?.size === 0) this.#users.delete(buffer)
    }
    this.#groups.delete(key)
  }

  #forget(buffer: number): void {
    for (const key of [...(this.#users.get(buffer) ?? [])]) this.#drop(key)
  }
}

interface Entry {
  readonly group: GPUBindGroup
  readonly buffers: readonly number[]
}

const caches = new WeakMap<GPUDevice, BindGroupCache>()

/** The bind groups of a device, of all runtimes on it. */
export function bindGroupsOf(device: GPUDevice): BindGroupCache {
  let cache = caches.get(device)
  if (!cache) {
    cache = new BindGroupCache(device)
    caches.set(device, cache)
  }
  return cache
}
