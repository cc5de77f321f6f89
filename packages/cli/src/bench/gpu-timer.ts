import type { Runtime } from '@sparse-attention/core'

/**
 * Time on the GPU's own clock, from the start of the first pass to the end of the last one. Undefined on devices without
 * `timestamp-query`.
 */
export class GpuTimer implements Disposable {
  readonly #runtime: Runtime
  readonly #queries: GPUQuerySet
  readonly #resolved: GPUBuffer

  private constructor(runtime: Runtime) {
    this.#runtime = runtime
    this.#queries = runtime.device.createQuerySet({ type: 'timestamp', count: 2 })
    this.#resolved = runtime.device.createBuffer({
      label: 'timestamps',
      size: 16,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    })
  }

  static for(runtime: Runtime): GpuTimer | undefined {
    return runtime.device.features.has('timestamp-query') ? new GpuTimer(runtime) : undefined
  }

  /**
   * @param record hands out encoders whose passes are timed; each is submitted when the next is asked for, or at the end
   * @returns milliseconds
   */
  async time(record: (nextEncoder: () => GPUCommandEncoder) => void): Promise<number> {
    const { device } = this.#runtime
    let first = true
    let open: GPUCommandEncoder | undefined
    const submit = () => {
      if (open) device.queue.submit([open.finish()])
      open = undefined
    }
    record(() => {
      submit()
      open = device.createCommandEncoder({ label: 'timed' })
      return timed(open, () => {
        const writes = {
          querySet: this.#queries,
          // Every pass writes the end; the last one to do so is the end of all.
          endOfPassWriteIndex: 1,
          ...(first && { beginningOfPassWriteIndex: 0 }),
        }
        first = false
        return writes
      })
    })
    open ??= device.createCommandEncoder()
    open.resolveQuerySet(this.#queries, 0, 2, this.#resolved, 0)
    submit()
    const bytes = await this.#runtime.readBytes({ buffer: this.#resolved, offsetBytes: 0, sizeBytes: 16 })
    const [start, end] = new BigUint64Array(bytes)
    return Number(end! - start!) / 1e6
  }

  [Symbol.dispose](): void {
    this.#queries.destroy()
    this.#resolved.destroy()
  }
}

/** The encoder, with timestamps in each compute pass that is begun on it. */
function timed(encoder: GPUCommandEncoder, writes: () => GPUComputePassTimestampWrites): GPUCommandEncoder {
  return new Proxy(encoder, {
    get(target, name) {
      if (name === 'beginComputePass') {
        return (descriptor?: GPUComputePassDescriptor) =>
          target.beginComputePass({ ...descriptor, timestampWrites: writes() })
      }
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}
