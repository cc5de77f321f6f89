import {
  type ConfiguredMethod,
  countPairs,
  type HostPlan,
  type Runtime,
  recall,
  relativeError,
  type SparseAttention,
} from '@sparse-attention/core'
import type { AttentionInput } from './attention-input.js'
import { timeRuns, upload } from './time-runs.js'

/** One method on the tensors. */
export interface MethodMeasurement {
  readonly method: ConfiguredMethod
  /** What ran. */
  readonly path: 'sparse' | 'dense'
  readonly plan: HostPlan
  readonly keptPairs: number
  readonly visiblePairs: number
  /** Softmax mass that the plan keeps, mean over rows. */
  readonly recall: number
  /** Of the output, against the first method's. */
  readonly relativeError: number
  /** Planning and attention, as `timeRuns` times them. */
  readonly runsMs: readonly number[]
}

export interface MeasureMethodsOptions {
  readonly causal: boolean
  /** Where the tokens lie, for methods that ask. */
  readonly grid?: readonly number[]
  /** Timed runs of each method, after one that is not counted. */
  readonly runs: number
  readonly signal: AbortSignal
  /** After each run, counted or not. */
  readonly onRun: (method: string) => void
}

/**
 * Measures each method against the first one on the same tensors. All compile before any runs, so that a method which
 * does not take the tensors is found out at once. Nothing stays on the device, also on failure.
 *
 * @throws what `runtime.use` and `run` throw, and the signal's reason
 */
export async function measureMethods(
  runtime: Runtime,
  methods: readonly ConfiguredMethod[],
  input: AttentionInput,
  { causal, grid, runs, signal, onRun }: MeasureMethodsOptions,
): Promise<MethodMeasurement[]> {
  const { queryHeads, kvHeads, headDim, dtype } = input
  const attentions: SparseAttention[] = []
  try {
    for (const method of methods) {
      signal.throwIfAborted()
      attentions.push(await runtime.use(method, { queryHeads, kvHeads, headDim, dtype, causal }))
    }
    using q = upload(runtime, input, 'q')
    using k = upload(runtime, input, 'k')
    using v = upload(runtime, input, 'v')
    using out = runtime.tensor(dtype, q.shape)
    using lse = runtime.tensor('f32', q.shape.slice(0, 3))

    const measurements: MethodMeasurement[] = []
    let exact: { readonly out: Float32Array; readonly lse: Float32Array } | undefined
    for (const [i, attention] of attentions.entries()) {
      signal.throwIfAborted()
      const { result, runsMs } = await timeRuns(
        runtime,
        attention,
        { q, k, v, out, lse, ...(grid && { context: { grid } }) },
        { warmUps: 1, runs, signal, onRun: () => onRun(attention.id) },
      )
      const plan = await result.plan.read()
      const { kept, visible } = countPairs(plan)
      const answer = { out: await runtime.read(out), lse: await runtime.read(lse) }
      exact ??= answer
      measurements.push({
        method: methods[i]!,
        path: result.plan.path,
        plan,
        keptPairs: kept,
        visiblePairs: visible,
        recall: recall(answer.lse, exact.lse),
        relativeError: relativeError(answer.out, exact.out),
        runsMs,
      })
    }
    return measurements
  } finally {
    for (const attention of attentions) attention.dispose()
  }
}
