import type { Runtime } from '@sparse-attention/core'
import { RunUp } from './run-up.js'

/** What is timed never starts from an idle GPU: it was busy for at least so long, and as long as recording took. */
const shortestRunUpMs = 5
const longestRunUpMs = 200

/** Clocks are up when arithmetic has got no faster than this, relatively, for so long; a GPU that never settles is let be. */
const steadyWithin = 0.01
const steadyForMs = 200
const longestWarmUpMs = 3000

/** Where the timestamps go: of empty passes before and after. Their ends wait for all that was submitted before. */
const [begin, end] = [0, 1]
const stamps = 2

/**
 * Time on the GPU's own clock, from the first encoder handed out to the end of the last one, behind arithmetic that keeps the
 * GPU busy until then. Passes in between have no timestamps of their own: on an H100 each would cost 13 µs. Undefined on devices
 * without `timestamp-query`.
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
  static async for(
    runtime: Runtime,
    { runsUp = !runtime.software }: { readonly runsUp?: boolean } = {},
  ): Promise<GpuTimer | undefined> {
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
   * @param record hands out encoders for what is timed; each is submitted when the next is asked for, or at the end
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
      this.#runUp.record(encoder, runUps)
      device.queue.submit([encoder.finish()])
    }
    const start = performance.now()
    let open: GPUCommandEncoder | undefined
    const next = (): GPUCommandEncoder => {
      const first = open === undefined
      if (open) device.queue.submit([open.finish()])
      open = device.createCommandEncoder({ label: 'timed' })
      if (first) this.#mark(open, begin)
      return open
    }
    record(next)
    const last = open ?? next()
    this.#mark(last, end)
    last.resolveQuerySet(this.#queries, 0, stamps, this.#resolved, 0)
    device.queue.submit([last.finish()])
    this.#hostMs = performance.now() - start
    const sizeBytes = 8 * stamps
    const bytes = await this.#runtime.readBytes({ buffer: this.#resolved, offsetBytes: 0, sizeBytes })
    const at = new BigUint64Array(bytes)
    return Number(at[end]! - at[begin]!) / 1e6
  }

  #mark(encoder: GPUCommandEncoder, index: number): void {
    const timestampWrites = { querySet: this.#queries, endOfPassWriteIndex: index }
    encoder.beginComputePass({ timestampWrites }).end()
  }

  [Symbol.dispose](): void {
    this.#queries.destroy()
    this.#resolved.destroy()
    this.#runUp[Symbol.dispose]()
  }
}
