import { performance } from 'node:perf_hooks'
import type { Runtime } from '@sparse-attention/core'
import { RunUp } from './run-up.js'

/** What is timed never starts from an idle GPU: it was busy for at least so long, and as long as recording took. */
const shortestRunUpMs = 5
const longestRunUpMs = 200

/** Clocks are up when arithmetic has got no faster than this, relatively, for so long; a GPU that never settles is let be. */
const steadyWithin = 0.01
const steadyForMs = 200
const longestWarmUpMs = 3000

/** Where the timestamps go. */
const [begin, end, runUpEnd] = [0, 1, 2]
const stamps = 3

/**
 * Time on the GPU's own clock, from the start of the first pass to the end of the last one, behind arithmetic that keeps the
 * GPU busy until then. Undefined on devices without `timestamp-query`.
 */
export class GpuTimer implements Disposable {
  readonly #runtime: Runtime
  readonly #runUp: RunUp
  readonly #queries: GPUQuerySet
  readonly #resolved: GPUBuffer
  readonly #runsUp: boolean
  /** Of one run-up, as it was last seen. */
  #runUpMs = Number.POSITIVE_INFINITY
  /** That recording and submitting took, as it was last seen. */
  #hostMs = 0

  private constructor(runtime: Runtime, runUp: RunUp, runsUp: boolean) {
    this.#runtime = runtime
    this.#runsUp = runsUp
    this.#runUp = runUp
    this.#queries = runtime.device.createQuerySet({ type: 'timestamp', count: stamps })
    this.#resolved = runtime.device.createBuffer({
      label: 'timestamps',
      size: 8 * stamps,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    })
  }

  /** @param runsUp keep the GPU busy before what is timed. Default: not on a software adapter, which has no clocks to raise */
  static async for(runtime: Runtime, { runsUp = !runtime.software } = {}): Promise<GpuTimer | undefined> {
    if (!runtime.device.features.has('timestamp-query')) return undefined
    return new GpuTimer(runtime, await RunUp.for(runtime), runsUp)
  }

  /**
   * Keeps the GPU busy with arithmetic until that gets no faster: its clocks are up then.
   *
   * @returns milliseconds that it took
   */
  async warmUp(signal?: AbortSignal): Promise<number> {
    const start = performance.now()
    if (!this.#runsUp) return 0
    let [best, bestAt, repeats] = [Number.POSITIVE_INFINITY, start, 1]
    for (;;) {
      signal?.throwIfAborted()
      const ms = (await this.#time((next) => this.#runUp.record(next(), repeats), 0)) / repeats
      const now = performance.now()
      if (ms < best * (1 - steadyWithin)) bestAt = now
      best = Math.min(best, ms)
      this.#runUpMs = best
      if (now - bestAt > steadyForMs || now - start > longestWarmUpMs) return now - start
      repeats = Math.ceil(20 / best)
    }
  }

  /**
   * @param record hands out encoders whose passes are timed; each is submitted when the next is asked for, or at the end
   * @returns milliseconds
   */
  async time(record: (nextEncoder: () => GPUCommandEncoder) => void): Promise<number> {
    const ms = Math.min(longestRunUpMs, Math.max(shortestRunUpMs, 2 * this.#hostMs))
    return this.#time(record, this.#runsUp ? Math.ceil(ms / this.#runUpMs) : 0)
  }

  async #time(record: (nextEncoder: () => GPUCommandEncoder) => void, runUps: number): Promise<number> {
    const { device } = this.#runtime
    if (runUps > 0) {
      const encoder = device.createCommandEncoder({ label: 'run-up' })
      const ends = { querySet: this.#queries, endOfPassWriteIndex: runUpEnd }
      this.#runUp.record(
        timed(encoder, () => ends),
        runUps,
      )
      device.queue.submit([encoder.finish()])
    }
    const start = performance.now()
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
          endOfPassWriteIndex: end,
          ...(first && { beginningOfPassWriteIndex: begin }),
        }
        first = false
        return writes
      })
    })
    open ??= device.createCommandEncoder()
    open.resolveQuerySet(this.#queries, 0, stamps, this.#resolved, 0)
    submit()
    this.#hostMs = performance.now() - start
    const sizeBytes = 8 * stamps
    const bytes = await this.#runtime.readBytes({ buffer: this.#resolved, offsetBytes: 0, sizeBytes })
    const at = new BigUint64Array(bytes)
    // A pass may write its beginning while the work in front of it still runs.
    const from = runUps > 0 && at[runUpEnd]! > at[begin]! ? at[runUpEnd]! : at[begin]!
    return Number(at[end]! - from) / 1e6
  }

  [Symbol.dispose](): void {
    this.#queries.destroy()
    this.#resolved.destroy()
    this.#runUp[Symbol.dispose]()
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
