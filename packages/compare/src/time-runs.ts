import type {
  AttentionShape,
  AttentionTensors,
  DType,
  OwnedTensor,
  RunResult,
  Runtime,
  SparseAttention,
} from '@sparse-attention/core'
import type { AttentionInput } from './attention-input.js'

/** The shape of an attention call, as reports print it. */
export interface ShapeReport extends AttentionShape {
  readonly dtype: DType
  readonly causal: boolean
}

export function describeShape(input: AttentionInput, causal: boolean): ShapeReport {
  const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim, dtype } = input
  return { batch, queryHeads, kvHeads, queryLength, keyLength, headDim, dtype, causal }
}

/** One line for people. */
export function formatShape(shape: ShapeReport): string {
  const heads = shape.queryHeads === shape.kvHeads ? `${shape.queryHeads}` : `${shape.queryHeads} over ${shape.kvHeads}`
  return `batch ${shape.batch}, heads ${heads}, length ${shape.queryLength}×${shape.keyLength}, head_dim ${shape.headDim}, ${shape.dtype}${shape.causal ? ', causal' : ''}`
}

/** One array of the input on the device, owned by the caller. */
export function upload(runtime: Runtime, input: AttentionInput, name: 'q' | 'k' | 'v'): OwnedTensor {
  return runtime.tensor(input.dtype, input[name].shape, input[name].elements)
}

export interface TimeRunsOptions {
  /** Runs that come first and are not counted. */
  readonly warmUps: number
  /** At least 1. */
  readonly runs: number
  readonly signal: AbortSignal
  /** After each run, counted or not. */
  readonly onRun: () => void
}

/**
 * Runs planning and attention again and again, each timed from the call to the end of the GPU's work, with the GPU idle
 * before it. All write into the same outputs. The plan is that of the last run.
 */
export async function timeRuns(
  runtime: Runtime,
  attention: SparseAttention,
  tensors: AttentionTensors,
  { warmUps, runs, signal, onRun }: TimeRunsOptions,
): Promise<{ readonly result: RunResult; readonly runsMs: readonly number[] }> {
  let result: RunResult | undefined
  const runsMs: number[] = []
  await runtime.idle() // what was uploaded or run before is none of ours
  for (let i = 0; i < warmUps + runs; i++) {
    const start = performance.now()
    result = await attention.run(result ? { ...tensors, out: result.out, lse: result.lse } : tensors, { signal })
    await runtime.idle()
    if (i >= warmUps) runsMs.push(performance.now() - start)
    onRun()
  }
  return { result: result!, runsMs }
}
