import { allowedError, type CheckedResult, type GpuTimer, summary, type Timing } from '@sparse-attention/compare'
import {
  type AttentionState,
  type ConfiguredMethod,
  countPairs,
  halvesToFloats,
  type Plan,
  Random,
  type Runtime,
  recall,
  relativeError,
  type SparseAttention,
  SparseAttentionError,
} from '@sparse-attention/core'
import { errorOnDevice } from '../table/check.js'
import { recordAttention, timeInTurn, timeOnce } from '../table/timing.js'
import type { VideoTensors } from './video-tensors.js'

/** One method in one layer of a video model, over several steps; the last of them is checked. */
export interface StepsResult extends CheckedResult {
  readonly shape: string
  readonly method: string
  /** Of the last step. */
  readonly density: number | null
  /** Of the last step: softmax mass kept, mean over all rows. */
  readonly recall: number | null
  /** Of the last step: of the output, against dense's, in some rows. */
  readonly relativeError: number | null
  /** Of the first step, which finds an empty state. */
  readonly firstMs: number | null
  /** Of the steps behind the first: planning and attending. */
  readonly total: Timing | null
  /** Attending over the last step's plan. */
  readonly attend: Timing | null
  /** 1 − attend ÷ total: planning, and what attending does for the next step. */
  readonly planningShare: number | null
  /** 4 · head_dim · pairs kept. */
  readonly operations: number | null
  /** That a state holds, of this layer and one branch. */
  readonly stateBytes: number | null
  /** Dense ÷ this, in total. */
  readonly speedUp: number | null
}

export interface StepsOptions {
  readonly runtime: Runtime
  readonly timer: GpuTimer | undefined
  readonly shapeName: string
  readonly grid: readonly number[]
  /** Of the same video, one after another; at least 2. */
  readonly steps: number
  readonly seed: number
  /** Of attending alone. */
  readonly samples: number
  readonly signal: AbortSignal
}

/** What dense attention is of the last step. */
export interface DenseSteps {
  readonly result: StepsResult
  readonly lse: Float32Array
  /** Of the rows that are compared. */
  readonly rows: Float32Array
}

/**
 * Runs a method over the steps of a video with a state, each step timed by itself; what the last one gave is checked, and its plan
 * attended over again.
 *
 * @param dense absent: this is dense
 * @throws what runs throw, of dense also that its answer is wrong
 */
export async function measureSteps(
  tensors: VideoTensors,
  method: ConfiguredMethod,
  dense: DenseSteps | undefined,
  options: StepsOptions,
): Promise<DenseSteps> {
  const { runtime, timer, shapeName, grid, steps, seed, signal } = options
  const { queryHeads, kvHeads, headDim } = tensors.shape
  const { q, k, v, out, lse } = tensors
  using attention = await runtime.use(method, { queryHeads, kvHeads, headDim, dtype: 'f16', causal: false })
  using state = method.method.capabilities.state ? attention.createState() : undefined
  await warm(attention, tensors, state, options)
  const times: number[] = []
  let plan: Plan | undefined
  for (let step = 0; step < steps; step++) {
    signal.throwIfAborted()
    await tensors.fill(step)
    const call = { q, k, v, out, lse, context: { grid, step, steps }, ...(state && { state }) }
    const ms = await timeOnce(runtime, timer, (next) => {
      const recorded = attention.encodeParts(call)
      plan = recorded.plan
      for (const part of recorded.parts) part(next())
    })
    times.push(ms)
  }
  const { path } = plan!
  const host = path === 'dense' ? undefined : await plan!.read()
  const all = queryHeads * tensors.shape.queryLength * tensors.shape.keyLength
  const { kept, visible } = host ? countPairs(host) : { kept: all, visible: all }
  // A copy by name: what was read of these tensors before, in another step, is not what they hold now.
  const { scale } = attention.config
  const error = await errorOnDevice(runtime, asCall(tensors), { causal: false, scale, seed }, host)
  const found = { lse: await runtime.read(lse), rows: await sampleRows(runtime, tensors, seed) }
  const checkedError = Number.isFinite(error) ? error : null
  const about = {
    ...{ shape: shapeName, method: attention.id, options: method.options, path, checkedError },
    recall: recall(found.lse, dense?.lse ?? found.lse),
    relativeError: finite(relativeError(found.rows, dense?.rows ?? found.rows)),
    density: kept / visible,
    operations: 4 * headDim * kept,
    stateBytes: state?.sizeBytes ?? 0,
  }
  if (!(error <= allowedError.f16)) {
    const reason = `off by ${checkedError?.toExponential(1) ?? 'what is not a number'} from float64 in the rows checked; ${allowedError.f16} is allowed`
    const nothing = { firstMs: null, total: null, attend: null, planningShare: null, speedUp: null }
    return { result: { ...about, ...nothing, status: 'wrong result', reason }, ...found }
  }
  const total = summary(times.slice(1))
  let attend = total
  if (path === 'sparse') {
    using own = plan!.clone()
    const call = { q, k, v, out, lse, context: { grid, step: steps - 1, steps }, ...(state && { state }) }
    attend = (await timeInTurn(runtime, timer, { attend: recordAttention(attention, call, { plan: own }) }, options))
      .attend
  }
  const speedUp = dense ? dense.result.total && dense.result.total.medianMs / total.medianMs : 1
  const planningShare = Math.max(0, 1 - attend.medianMs / total.medianMs)
  const timed = { firstMs: times[0]!, total, attend, planningShare, speedUp }
  return { result: { ...about, ...timed, status: 'timed', reason: null }, ...found }
}

/** The result of a method that cannot run here; rethrows what must end the run. */
export function notAvailable(
  { runtime, shapeName, signal }: StepsOptions,
  { method, options }: ConfiguredMethod,
  error: unknown,
): StepsResult {
  signal.throwIfAborted()
  runtime.assertUsable()
  if (!SparseAttentionError.is(error)) throw error
  return {
    ...{ shape: shapeName, method: method.id, options, status: 'not available', reason: error.message },
    ...{ checkedError: null, path: null, density: null, recall: null, relativeError: null, firstMs: null, total: null },
    ...{ attend: null, planningShare: null, operations: null, stateBytes: null, speedUp: null },
  }
}

/** A first call by itself, whose state is forgotten: drivers finish compiling, memory is allocated, and the GPU raises its clocks. */
async function warm(
  attention: SparseAttention,
  tensors: VideoTensors,
  state: AttentionState | undefined,
  { timer, grid, steps, signal, runtime }: StepsOptions,
): Promise<void> {
  const { q, k, v, out, lse } = tensors
  await tensors.fill(0)
  await attention.run({ q, k, v, out, lse, context: { grid, step: 0, steps }, ...(state && { state }) }, { signal })
  state?.reset()
  await runtime.idle()
  await timer?.warmUp(signal)
}

function asCall({ shape, q, k, v, out, lse }: VideoTensors) {
  return { shape, q, k, v, out, lse, [Symbol.dispose]: () => {} }
}

/** Rows of each head whose outputs are compared with dense's. */
const rowsPerHead = 8

async function sampleRows(runtime: Runtime, { shape, out }: VideoTensors, seed: number): Promise<Float32Array> {
  const { queryHeads, queryLength, headDim } = shape
  const random = new Random(seed)
  const rows = new Float32Array(queryHeads * rowsPerHead * headDim)
  for (let i = 0; i < queryHeads * rowsPerHead; i++) {
    const row = Math.floor(i / rowsPerHead) * queryLength + random.integer(queryLength)
    const slice = { buffer: out.buffer, offsetBytes: 2 * row * headDim, sizeBytes: 2 * headDim }
    rows.set(halvesToFloats(new Uint16Array(await runtime.readBytes(slice))), i * headDim)
  }
  return rows
}

/** JSON has no NaN. */
function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null
}
