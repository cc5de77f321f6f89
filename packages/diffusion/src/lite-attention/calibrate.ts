import { type AttentionTensors, type Runtime, SparseAttentionError, type UseConfig } from '@sparse-attention/core'
import { type LiteAttentionOptions, liteAttention } from './method.js'

export interface CalibrateOptions
  extends Partial<Omit<LiteAttentionOptions, 'threshold' | 'denseSteps' | 'denseLayers'>> {
  /** Largest Σ|sparse − dense| ÷ Σ|dense| of the output of this layer and step. Default 0.05. */
  readonly targetError?: number
}

export interface CalibratedThreshold {
  /** To be written into a table [layer][step]. From −20 to 0. */
  readonly threshold: number
  /** At that threshold. */
  readonly error: number
  /** Share of pairs that are left. */
  readonly density: number
}

/** Weights of 2^−20 are below what f16 outputs show; at 0 only blocks that raise a maximum are left. */
const [lowest, highest] = [-20, 0]

/** Errors this close to the target end the search; the paper's code stops there. */
const closeEnough = 0.1

const mostTrials = 30

/**
 * Finds, by bisection, the largest threshold at which what one layer leaves out in one step changes its output by no more than
 * `targetError`. Each trial computes twice on the same tensors: densely, voting, and over what got votes. Reads outputs back:
 * for preparing a table, not for sampling.
 *
 * ```ts
 * const table = layers.map(() => new Array<number>(steps).fill(-10))
 * // While sampling one video densely, for each layer and step:
 * table[layer]![step] = (await calibrateThreshold(runtime, config, { q, k, v, context })).threshold
 * writeFileSync('thresholds.json', JSON.stringify(table)) // --option threshold=@thresholds.json
 * ```
 *
 * @param tensors  of that layer and step; `state` and outputs are not used
 * @throws INVALID_OPTION for a target that is not between 0 and 1, and as `attention.run`
 */
export async function calibrateThreshold(
  runtime: Runtime,
  config: UseConfig,
  { q, k, v, context }: AttentionTensors,
  { targetError = 0.05, ...options }: CalibrateOptions = {},
): Promise<CalibratedThreshold> {
  if (!(targetError > 0 && targetError < 1)) {
    throw new SparseAttentionError('INVALID_OPTION', {
      message: `targetError is ${targetError}.`,
      fix: 'Use a share between 0 and 1, such as 0.05.',
      where: 'targetError',
    })
  }
  const tensors = { q, k, v, ...(context && { context }) }
  const attempt = async (threshold: number): Promise<CalibratedThreshold> => {
    using attention = await runtime.use(liteAttention({ ...options, threshold }), config)
    const outputs: Float32Array[] = []
    let density = 1
    for (const pass of ['dense', 'sparse'] as const) {
      const { out, lse, plan } = await attention.run(tensors)
      outputs.push(await runtime.read(out))
      if (pass === 'sparse') density = (await plan.stats()).density
      out.buffer.destroy()
      lse.buffer.destroy()
    }
    return { threshold, error: relativeL1(outputs[1]!, outputs[0]!), density }
  }

  let best = await attempt(lowest)
  if (best.error >= targetError) return best
  const loosest = await attempt(highest)
  if (loosest.error <= targetError) return loosest
  let [low, high] = [lowest, highest]
  for (let trial = 0; trial < mostTrials && best.error < (1 - closeEnough) * targetError; trial++) {
    const found = await attempt((low + high) / 2)
    if (found.error <= targetError) {
      best = found
      low = found.threshold
    } else high = found.threshold
  }
  return best
}

function relativeL1(actual: Float32Array, expected: Float32Array): number {
  let [difference, size] = [0, 0]
  for (let i = 0; i < expected.length; i++) {
    difference += Math.abs(actual[i]! - expected[i]!)
    size += Math.abs(expected[i]!)
  }
  return difference === 0 ? 0 : difference / size
}
