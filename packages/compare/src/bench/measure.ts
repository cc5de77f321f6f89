import {
  type ConfiguredMethod,
  countPairs,
  type Plan,
  type Runtime,
  recall,
  relativeError,
  type Tier,
} from '@sparse-attention/core'
import { allowedError, errorOfRows } from './check-rows.js'
import type { CheckedResult } from './checked-result.js'
import { gatheredBytes } from './gathered-bytes.js'
import type { GpuTimer } from './gpu-timer.js'
import type { BenchInput } from './input.js'

import { type SampleOptions, timeWall, warmUps } from './samples.js'
import { uploadInput } from './tensors.js'
import { type AttentionTimes, type Times, timeAttention } from './time-attention.js'

/** One contender at one length. */
export interface BenchResult extends CheckedResult {
  readonly length: number
  /** Id of a method, or `onnxruntime-web`. */
  readonly contender: string
  /** Of a method, all of them; of onnxruntime-web, the operator. */
  readonly options: CheckedResult['options']
  readonly tier: Tier | null
  readonly density: number | null
  readonly recall: number | null
  /** Of the output, against dense's. */
  readonly relativeError: number | null
  /** Planning and attending. */
  readonly total: Times | null
  /** Attending over a plan that is there; null where the two are one. */
  readonly attend: Times | null
  /** The difference of the two medians, on the GPU's clock where there is one. */
  readonly planningMs: number | null
  /** 4 · head_dim · kept pairs. */
  readonly operations: number | null
  /** Of q, k, v, output and LSE, each moved once. */
  readonly bytes: number | null
  /** With a grid, of methods: the memory that they take, beside that of gathering; else null. */
  readonly memory: BenchMemory | null
}

/** In bytes. */
export interface BenchMemory {
  /** Scratch that the first call allocated: copies in another order, lists, partial results. */
  readonly scratch: number
  /** Keys and values of every group of queries that shares a selection, gathered one after another. */
  readonly gathered: number
}

export interface MeasureOptions {
  readonly causal: boolean
  readonly scale: number
  readonly seed: number
  readonly samples: number
  readonly signal: AbortSignal
  readonly onSample: (contender: string) => void
  /** Where the tokens lie, for methods that ask. */
  readonly grid?: readonly number[]
}

/** Samples of one contender, for a progress bar. */
export function samplesOf(contender: 'method' | 'peer', samples: number, gpuTimes: boolean): number {
  if (contender === 'peer') return warmUps + samples
  return 2 * (warmUps + samples * (gpuTimes ? 2 : 1))
}

/** What dense computed: the others are compared with it. */
export interface DenseAnswer {
  readonly out: Float32Array
  readonly lse: Float32Array
}

/** Runs a method, checks its answer, and times it if that is right. */
export async function measureMethod(
  runtime: Runtime,
  method: ConfiguredMethod,
  input: BenchInput,
  dense: DenseAnswer | undefined,
  timer: GpuTimer | undefined,
  options: MeasureOptions,
): Promise<{ readonly result: BenchResult; readonly answer: DenseAnswer }> {
  const { causal, scale, signal, samples } = options
  const { queryHeads, kvHeads, headDim, dtype } = input
  using attention = await runtime.use(method, { queryHeads, kvHeads, headDim, dtype, causal, scale })
  using tensors = uploadInput(runtime, input)
  const { q, k, v, out, lse } = tensors
  const { grid } = options
  const call = { q, k, v, out, lse, ...(grid && { context: { grid } }) }
  const first = await attention.run(call, { signal })
  const answer = { out: await runtime.read(out), lse: await runtime.read(lse) }
  const host = await first.plan.read()
  const { kept, visible } = countPairs(host)
  using plan: Plan = first.plan.clone()
  const exact = dense ?? answer
  const scratch = runtime.scratch.allocatedBytes
  const found = {
    length: input.queryLength,
    contender: attention.id,
    options: method.options,
    tier: runtime.tier,
    path: first.plan.path,
    density: visible === 0 ? 1 : kept / visible,
    recall: recall(answer.lse, exact.lse),
    relativeError: relativeError(answer.out, exact.out),
    operations: 4 * headDim * kept,
    bytes: compulsoryBytes(input, answer.lse.length * 4),
    // A dense path reads as blocks, and nobody gathers those.
    memory: grid ? { scratch, gathered: first.plan.path === 'dense' ? 0 : gatheredBytes(host, input) } : null,
  }
  const error = errorOfRows(input, options, { ...answer, plan: host })
  const times = isRight(error, dtype)
    ? await timeAttention(runtime, attention, call, plan, timer, sampling(attention.id, samples, options))
    : undefined
  return { result: { ...found, ...judged(error, dtype), ...timesOf(times) }, answer }
}

/** Another implementation of attention on the same device and the same buffers. */
export interface Peer extends AsyncDisposable {
  /** What computes it: an operator's name. */
  readonly operator: string
  /** Computes attention of the tensors into their `out`. Resolves when it is submitted. */
  call(): Promise<void>
}

/** Runs onnxruntime-web's attention, checks its answer, and times it if that is right. */
export async function measurePeer(
  runtime: Runtime,
  open: (tensors: ReturnType<typeof uploadInput>) => Promise<Peer>,
  input: BenchInput,
  dense: DenseAnswer,
  options: MeasureOptions,
): Promise<BenchResult> {
  const nothing: BenchResult = {
    length: input.queryLength,
    contender: peerName,
    options: {},
    tier: null,
    status: 'not available',
    reason: null,
    checkedError: null,
    path: null,
    density: null,
    recall: null,
    relativeError: null,
    total: null,
    attend: null,
    planningMs: null,
    operations: null,
    bytes: null,
    memory: null,
  }
  using tensors = uploadInput(runtime, input)
  let right = false
  try {
    await using peer = await open(tensors)
    await peer.call()
    const out = await runtime.read(tensors.out)
    const error = errorOfRows(input, options, { out })
    const found = { ...nothing, ...judged(error, input.dtype), options: { operator: peer.operator } }
    right = isRight(error, input.dtype)
    if (!right) return { ...found, relativeError: finite(relativeError(out, dense.out)) }
    const sampled = sampling(peerName, options.samples, options)
    const { calls: _, ...wall } = await timeWall(runtime, () => peer.call(), sampled)
    return {
      ...found,
      path: 'dense',
      density: 1,
      recall: 1,
      relativeError: relativeError(out, dense.out),
      total: { wall, gpu: null },
    }
  } catch (error) {
    if (options.signal.aborted || right) throw error
    runtime.assertUsable()
    return { ...nothing, reason: error instanceof Error ? error.message.split('\n', 1)[0]! : String(error) }
  }
}

export const peerName = 'onnxruntime-web'

function sampling(contender: string, samples: number, { signal, onSample }: MeasureOptions): SampleOptions {
  return { samples, signal, onSample: () => onSample(contender) }
}

function isRight(error: number, dtype: BenchInput['dtype']): boolean {
  return error <= allowedError[dtype]
}

function judged(error: number, dtype: BenchInput['dtype']): Pick<BenchResult, 'status' | 'reason' | 'checkedError'> {
  const checkedError = finite(error)
  if (isRight(error, dtype)) return { status: 'timed', reason: null, checkedError }
  const seen = checkedError === null ? 'not a number' : checkedError.toExponential(1)
  const reason = `off by ${seen} from float64 in the rows checked; ${allowedError[dtype]} is allowed`
  return { status: 'wrong result', reason, checkedError }
}

/** JSON has no NaN. */
function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null
}

function timesOf(times: AttentionTimes | undefined): Pick<BenchResult, 'total' | 'attend' | 'planningMs'> {
  if (!times) return { total: null, attend: null, planningMs: null }
  const { total, attend } = times
  const planningMs =
    total.gpu && attend.gpu ? total.gpu.medianMs - attend.gpu.medianMs : total.wall.medianMs - attend.wall.medianMs
  return { total, attend, planningMs: Math.max(0, planningMs) }
}

function compulsoryBytes({ q, k, v, dtype }: BenchInput, lseBytes: number): number {
  return (2 * q.length + k.length + v.length) * (dtype === 'f16' ? 2 : 4) + lseBytes
}
