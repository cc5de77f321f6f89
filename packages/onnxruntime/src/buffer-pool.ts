import { isMissing, type OwnedTensor, type Runtime } from '@sparse-attention/core'

/** Buffers for attention outputs and uploads, of which a run needs the same few sizes over and over. */
export class BufferPool {
  readonly #free: OwnedTensor[] = []
  readonly #taken = new Map<GPUBuffer, OwnedTensor>()

  /** @param keep free buffers to keep: what one attention takes, conversions included, and the output of the one before */
  constructor(
    private readonly runtime: Runtime,
    private readonly keep: number = 10,
  ) {}

  /**
   * A buffer of that many bytes, rounded up to 16. Contents undefined.
   *
   * @throws LIMIT_EXCEEDED
   */
  take(sizeBytes: number): GPUBuffer {
    const words = Math.ceil(sizeBytes / 16) * 4
    const index = this.#free.findIndex(({ shape, buffer }) => shape[0] === words && !isMissing(buffer))
    const memory = index >= 0 ? this.#free.splice(index, 1)[0]! : this.runtime.tensor('f32', [words])
    this.#taken.set(memory.buffer, memory)
    return memory.buffer
  }

  /** Takes a buffer back. Work that was submitted before may still use it. */
  give(buffer: GPUBuffer): void {
    const memory = this.#taken.get(buffer)
    if (!memory) return
    this.#taken.delete(buffer)
    this.#free.push(memory)
    while (this.#free.length > this.keep) this.#free.shift()!.dispose()
  }

  /** Lets go of a buffer that somebody else owns from now on, and destroys. */
  surrender(buffer: GPUBuffer): void {
    this.#taken.delete(buffer)
  }

  dispose(): void {
    for (const memory of [...this.#free.splice(0), ...this.#taken.values()]) memory.dispose()
    this.#taken.clear()
  }
}
