import { performance } from 'node:perf_hooks'
import { callsPerSample, type GpuTimer, summary, type Timing } from '@sparse-attention/compare'
import type { Runtime, SparseAttention } from '@sparse-attention/core'

/** Records so many calls, one after another. */
export type Recorder = (nextEncoder: () => GPUCommandEncoder, calls: number) => void

export interface TimingOptions {
  /** Samples that count, of each. */
  readonly samples: number
  readonly signal: AbortSignal
}

/** How long calls are repeated before they are timed where the GPU's clock cannot be read, and so not be watched. */
const blindWarmUpMs = 400

/** Records calls of an attention, with planning or over a plan that is there. */
export function recordAttention(
  attention: SparseAttention,
  tensors: Parameters<SparseAttention['encodeParts']>[0],
  given: Parameters<SparseAttention['encodeParts']>[1] = {},
): Recorder {
  return (nextEncoder, calls) => {
    // Short calls share a submit, so that the GPU never waits for the host; long ones are cut as `run` cuts them.
    const shared = calls > 1 ? nextEncoder() : undefined
    for (let i = 0; i < calls; i++) {
      for (const part of attention.encodeParts(tensors, given).parts) part(shared ?? nextEncoder())
    }
  }
}

/** One call, timed as `timeInTurn` times its samples. */
export function timeOnce(
  runtime: Runtime,
  timer: GpuTimer | undefined,
  record: (nextEncoder: () => GPUCommandEncoder) => void,
): Promise<number> {
  return timer ? timer.time(record) : wallTime(runtime, record)
}

/**
 * Times several calls in turn, so that a clock that drifts meets them all alike: on the GPU's own clock where there is one,
 * behind work that keeps the GPU busy, else from submit to idle. A sample is as many calls as take about ten milliseconds.
 */
export async function timeInTurn<Name extends string>(
  runtime: Runtime,
  timer: GpuTimer | undefined,
  calls: Readonly<Record<Name, Recorder>>,
  { samples, signal }: TimingOptions,
): Promise<Record<Name, Timing>> {
  const sample = async (record: Recorder, count: number): Promise<number> => {
    signal.throwIfAborted()
    const all = (next: () => GPUCommandEncoder) => record(next, count)
    return (await timeOnce(runtime, timer, all)) / count
  }
  const names = Object.keys(calls) as Name[]
  const counts = {} as Record<Name, number>
  const ms = {} as Record<Name, number[]>
  for (const name of names) await sample(calls[name], 1)
  // Kernels were compiled and answers checked before: the GPU was idle for as long as that took.
  if (timer) await timer.warmUp(signal)
  else if (!runtime.software) {
    const count = callsPerSample(await sample(calls[names[0]!], 1))
    const start = performance.now()
    while (performance.now() - start < blindWarmUpMs) await sample(calls[names[0]!], count)
  }
  for (const name of names) {
    counts[name] = runtime.software ? 1 : callsPerSample(await sample(calls[name], 1))
    ms[name] = []
  }
  for (let i = 0; i < samples; i++) {
    for (const name of names) ms[name].push(await sample(calls[name], counts[name]))
  }
  return Object.fromEntries(names.map((name) => [name, summary(ms[name])])) as Record<Name, Timing>
}

async function wallTime(runtime: Runtime, record: (nextEncoder: () => GPUCommandEncoder) => void): Promise<number> {
  const { device } = runtime
  await runtime.idle()
  const start = performance.now()
  let open: GPUCommandEncoder | undefined
  const submit = () => {
    if (open) device.queue.submit([open.finish()])
  }
  record(() => {
    submit()
    open = device.createCommandEncoder()
    return open
  })
  submit()
  await runtime.idle()
  return performance.now() - start
}
