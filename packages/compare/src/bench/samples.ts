import type { Runtime } from '@sparse-attention/core'
import { median, percentile } from '../statistics.js'

/** Milliseconds a call over several samples. */
export interface Timing {
  readonly medianMs: number
  readonly p10Ms: number
  readonly p90Ms: number
}

export interface SampleOptions {
  /** Samples that count. */
  readonly samples: number
  readonly signal: AbortSignal
  /** After each sample, counted or not. */
  readonly onSample: () => void
}

/** Samples that come first and are not counted: drivers finish compiling, caches fill. */
export const warmUps = 2

/** A GPU that was idle takes this long to raise its clocks, and is up to three times slower before. */
const clockRiseMs = 400

/** A sample is at least this long, so that neither the clock's steps nor the wait for the GPU decide what it shows. */
const shortestSampleMs = 10

/** A timestamp may come in steps of 65 µs where it cannot be helped: 1 in 150 of this. */
const mostCalls = 256

/** How many calls back to back make a sample long enough, after a first call of so many milliseconds. */
export function callsPerSample(firstMs: number): number {
  return Math.min(mostCalls, Math.max(1, Math.ceil(shortestSampleMs / Math.max(firstMs, 0.01))))
}

/** Wall time of a call: so many back to back, from the GPU idle until it is idle again, divided by their number. */
export async function timeWall(
  runtime: Runtime,
  call: () => Promise<unknown>,
  { samples, signal, onSample }: SampleOptions,
): Promise<Timing & { readonly calls: number }> {
  const sample = async (calls: number): Promise<number> => {
    signal.throwIfAborted()
    await runtime.idle()
    const start = performance.now()
    for (let i = 0; i < calls; i++) await call()
    await runtime.idle()
    const ms = (performance.now() - start) / calls
    onSample()
    return ms
  }
  let firstMs = 0
  for (let i = 0; i < warmUps; i++) firstMs = await sample(1)
  if (!runtime.software) firstMs = await raiseClocks(runtime, call, signal)
  const calls = callsPerSample(firstMs)
  const measured: number[] = []
  for (let i = 0; i < samples; i++) measured.push(await sample(calls))
  return { ...summary(measured), calls }
}

/** Keeps the GPU busy until its clocks are up, and tells what a call takes then. */
async function raiseClocks(runtime: Runtime, call: () => Promise<unknown>, signal: AbortSignal): Promise<number> {
  const start = performance.now()
  for (let calls = 1; ; calls = Math.min(2 * calls, mostCalls)) {
    signal.throwIfAborted()
    const before = performance.now()
    for (let i = 0; i < calls; i++) await call()
    await runtime.idle()
    const now = performance.now()
    if (now - start > clockRiseMs) return (now - before) / calls
  }
}

export function summary(ms: readonly number[]): Timing {
  return { medianMs: median(ms), p10Ms: percentile(ms, 0.1), p90Ms: percentile(ms, 0.9) }
}
