import type { AttentionTensors, Plan, Runtime, SparseAttention } from '@sparse-attention/core'
import type { GpuTimer } from './gpu-timer.js'
import { type SampleOptions, summary, type Timing, timeWall } from './samples.js'

/** Wall time, and GPU time where the device has timestamps. */
export interface Times {
  readonly wall: Timing
  readonly gpu: Timing | null
}

/** Planning and attending together, and attending alone over a plan that is there. */
export interface AttentionTimes {
  readonly total: Times
  readonly attend: Times
}

/**
 * Times an attention on tensors whose outputs are the caller's: with planning, and over `plan` without it. All samples are
 * of as many calls back to back as take some ten milliseconds.
 */
export async function timeAttention(
  runtime: Runtime,
  attention: SparseAttention,
  tensors: AttentionTensors,
  plan: Plan,
  timer: GpuTimer | undefined,
  options: SampleOptions,
): Promise<AttentionTimes> {
  const { signal } = options
  const timed = async (given: { plan?: Plan }): Promise<Times> => {
    const { calls, ...wall } = await timeWall(runtime, () => attention.run(tensors, { signal, ...given }), options)
    if (!timer) return { wall, gpu: null }
    const gpu: number[] = []
    for (let i = 0; i < options.samples; i++) {
      signal.throwIfAborted()
      const ms = await timer.time((nextEncoder) => {
        for (let call = 0; call < calls; call++) {
          for (const record of attention.encodeParts(tensors, given).parts) record(nextEncoder())
        }
      })
      gpu.push(ms / calls)
      options.onSample()
    }
    return { wall, gpu: summary(gpu) }
  }
  const total = await timed({})
  // A dense path has nothing to plan.
  return { total, attend: plan.path === 'dense' ? total : await timed({ plan }) }
}
