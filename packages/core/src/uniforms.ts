import { allocateBuffer, isMissing } from './allocate.js'
import type { BufferSlice } from './tensor.js'

const UNIFORM_COPY_DST = 0x40 | 0x08

/**
 * Uniform blocks by content. They are immutable, so a block is safe to share between calls that are recorded but not
 * yet submitted, and the same shapes in every layer cost one buffer.
 */
export class UniformCache {
  readonly #device: GPUDevice
  readonly #capacity: number
  readonly #blocks = new Map<string, GPUBuffer>()

  constructor(device: GPUDevice, capacity = 1024) {
    this.#device = device
    this.#capacity = capacity
  }

  /** A uniform block holding `words`, padded to 16 bytes. */
  get(words: Uint32Array): BufferSlice {
    const key = words.join()
    let buffer = this.#blocks.get(key)
    if (buffer && !isMissing(buffer)) {
      this.#blocks.delete(key) // re-inserted below: a Map iterates in insertion order, oldest first
    } else {
      buffer?.destroy()
      const padded = new Uint32Array(Math.ceil(words.length / 4) * 4)
      padded.set(words)
      buffer = allocateBuffer(this.#device, { label: 'uniforms', size: padded.byteLength, usage: UNIFORM_COPY_DST })
      this.#device.queue.writeBuffer(buffer, 0, padded)
      if (this.#blocks.size >= this.#capacity) {
        // Dropped, not destroyed: an encoder that is not submitted yet may hold it.
        this.#blocks.delete(this.#blocks.keys().next().value!)
      }
    }
    this.#blocks.set(key, buffer)
    return { buffer, offsetBytes: 0, sizeBytes: buffer.size }
  }

  dispose(): void {
    for (const buffer of this.#blocks.values()) buffer.destroy()
    this.#blocks.clear()
  }
}
