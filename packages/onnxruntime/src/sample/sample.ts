import { gaussianNoise } from './noise.js'
import type { CheckedSampling, Evaluation } from './options.js'
import { flowTimes } from './schedule.js'

/** The velocity there, f32 of the latents' shape. */
export type Evaluate = (evaluation: Evaluation) => Promise<Float32Array>

/**
 * Integrates dx/dt = v(x, t) of a rectified flow from noise at t = 1 to data at t = 0 by Euler's rule (arXiv:2209.03003), v of
 * two branches by classifier-free guidance (arXiv:2207.12598).
 *
 * @returns f32 [shape], the latents at t = 0
 */
export async function sampleFlow(evaluate: Evaluate, options: CheckedSampling): Promise<Float32Array<ArrayBuffer>> {
  const { count, steps, shift, seed, guidance, signal, onEvaluation, onStep } = options
  const times = flowTimes(steps, shift)
  const latents = options.noise ? Float32Array.from(options.noise) : gaussianNoise(seed, count)
  for (let step = 0; step < steps; step++) {
    signal?.throwIfAborted()
    const at = async (branch: Evaluation['branch']) => {
      const evaluation = { latents, time: times[step]!, step, steps, branch }
      return onEvaluation ? onEvaluation(evaluation, () => evaluate(evaluation)) : evaluate(evaluation)
    }
    // Of recorded passes the second is handed to the GPU while it computes the first.
    const branches = guidance === 1 ? (['conditional'] as const) : (['conditional', 'unconditional'] as const)
    const velocities = await settled(branches.map(at))
    const [conditional, unconditional = conditional] = velocities as [Float32Array, Float32Array?]
    const change = times[step + 1]! - times[step]!
    for (let i = 0; i < count; i++) {
      const velocity = unconditional[i]! + guidance * (conditional[i]! - unconditional[i]!)
      latents[i]! += change * velocity
    }
    await onStep?.({ step, steps, time: times[step + 1]!, latents: latents.slice() })
  }
  return latents
}

/** All results, or the first failure, when nothing is under way any more. */
async function settled<T>(work: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(work)
  return Promise.all(work)
}
