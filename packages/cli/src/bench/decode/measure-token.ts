import { allowedError, type Ceilings, type CheckedResult, type GpuTimer, type Timing } from '@sparse-attention/compare'
import {
  type ConfiguredMethod,
  countPairs,
  type HostPlan,
  type PagedKVCache,
  type Plan,
  type Runtime,
  recall,
  SparseAttentionError,
} from '@sparse-attention/core'
import { fillNormal } from '../table/device-input.js'
import { type Recorder, recordAttention, timeInTurn } from '../table/timing.js'
import { SequenceReader } from './check-token.js'
import { pageSize } from './sequences.js'

/** One method, writing one token of each sequence. */
export interface TokenResult extends CheckedResult {
  /** Tokens before it, of each sequence. */
  readonly keys: number
  /** Sequences. */
  readonly batch: number
  /** Query heads of a KV head. */
  readonly group: number
  readonly method: string
  /** Keys that a head attends to, mean. */
  readonly keptKeys: number | null
  /** Of the keys before it. */
  readonly density: number | null
  /** Softmax mass that the selection holds: mean and least of heads and sequences. */
  readonly mass: { readonly mean: number; readonly least: number } | null
  /** Planning and attending. */
  readonly total: Timing | null
  /** Attending over a plan that is there. */
  readonly attend: Timing | null
  /** 1 − attend ÷ total. */
  readonly planningShare: number | null
  /** Of keys and values that are attended to, once for each KV head. */
  readonly bytes: number | null
  /** bytes ÷ attend, of what a copy moves in that time. */
  readonly copyShare: number | null
  /** Dense ÷ this, in total. */
  readonly speedUp: number | null
}

export interface TokenOptions {
  readonly runtime: Runtime
  readonly timer: GpuTimer | undefined
  readonly ceilings: Ceilings
  readonly seed: number
  readonly samples: number
  readonly signal: AbortSignal
}

interface Ready extends Disposable {
  readonly result: TokenResult
  readonly calls: Readonly<Record<string, Recorder>>
  readonly lse: Float32Array
}

/** Queries are so much larger than keys, so that attention is not the same everywhere: logits deviate by as much. */
const queryScale = 4

/**
 * One token after those of a cache, by several methods: all answers are checked, then all calls are timed in turn.
 *
 * @param methods the first is what the others are compared with
 */
export async function measureToken(
  cache: PagedKVCache,
  group: number,
  methods: readonly ConfiguredMethod[],
  options: TokenOptions,
): Promise<TokenResult[]> {
  const { runtime, timer, seed, signal } = options
  const { batch, kvHeads, headDim } = cache.config
  const queryHeads = kvHeads * group
  using q = runtime.tensor('f16', [batch, queryHeads, 1, headDim])
  await fillNormal(runtime, q, { seed: 0x5eed + seed + group, scale: queryScale })
  const reader = new SequenceReader(runtime, cache)
  const ready: Ready[] = []
  try {
    for (const [i, method] of methods.entries()) {
      signal.throwIfAborted()
      ready.push(await prepare(cache, group, method, `${i}`, { q, reader, dense: ready[0]?.lse }, options))
    }
    const calls = Object.assign({}, ...ready.map((each) => each.calls)) as Record<string, Recorder>
    const times: Record<string, Timing> = await timeInTurn(runtime, timer, calls, options)
    const results = ready.map(({ result }, i) => withTimes(result, times[`${i} total`], times[`${i} attend`], options))
    const dense = results[0]!.total
    return results.map((result) => ({
      ...result,
      speedUp: dense && result.total ? dense.medianMs / result.total.medianMs : null,
    }))
  } finally {
    for (const each of ready) each[Symbol.dispose]()
  }
}

/** Compiles a method, runs it once and checks what it found. */
async function prepare(
  cache: PagedKVCache,
  group: number,
  method: ConfiguredMethod,
  name: string,
  { q, reader, dense }: { q: ReturnType<Runtime['tensor']>; reader: SequenceReader; dense: Float32Array | undefined },
  { runtime, signal }: TokenOptions,
): Promise<Ready> {
  const { batch, kvHeads, headDim } = cache.config
  const queryHeads = kvHeads * group
  const about: TokenResult = {
    ...{ keys: cache.length, batch, group, method: method.method.id, options: method.options },
    ...{ status: 'not available', reason: null, checkedError: null, path: null, keptKeys: null, density: null },
    ...{ mass: null, total: null, attend: null, planningShare: null, bytes: null, copyShare: null, speedUp: null },
  }
  const held: Disposable[] = []
  const dispose = () => {
    for (const each of held) each[Symbol.dispose]()
  }
  try {
    const config = { queryHeads, kvHeads, headDim, dtype: 'f16', causal: true, pageSize } as const
    const attention = await runtime.use(method, config)
    held.push(attention)
    const out = runtime.tensor('f16', [batch, queryHeads, 1, headDim])
    const lse = runtime.tensor('f32', [batch, queryHeads, 1])
    held.push(out, lse)
    const tensors = { q, cache, out, lse }
    const { plan } = await attention.run(tensors, { signal })
    const { path } = plan
    const host = path === 'dense' ? undefined : await plan.read()
    const found = { q: await runtime.read(q), out: await runtime.read(out), lse: await runtime.read(lse) }
    const error = await reader.error({ queryHeads, scale: attention.config.scale, ...found }, host)
    const checkedError = Number.isFinite(error) ? error : null
    const seen = { ...about, checkedError, path, ...kept(cache, host, found.lse, dense ?? found.lse) }
    if (!(error <= allowedError.f16)) {
      const reason = `off by ${checkedError?.toExponential(1) ?? 'what is not a number'} from float64 in the rows checked; ${allowedError.f16} is allowed`
      return {
        result: { ...seen, status: 'wrong result', reason },
        calls: {},
        lse: found.lse,
        [Symbol.dispose]: dispose,
      }
    }
    const calls: Record<string, Recorder> = { [`${name} total`]: recordAttention(attention, tensors) }
    if (path === 'sparse') {
      const own: Plan = plan.clone()
      held.push(own)
      calls[`${name} attend`] = recordAttention(attention, tensors, { plan: own })
    }
    return { result: { ...seen, status: 'timed' }, calls, lse: found.lse, [Symbol.dispose]: dispose }
  } catch (error) {
    dispose()
    signal.throwIfAborted()
    runtime.assertUsable()
    // Without dense there is nothing to compare with.
    if (!SparseAttentionError.is(error) || dense === undefined) throw error
    return { result: { ...about, reason: error.message }, calls: {}, lse: dense, [Symbol.dispose]: () => {} }
  }
}

function kept(
  cache: PagedKVCache,
  plan: HostPlan | undefined,
  lse: Float32Array,
  dense: Float32Array,
): Pick<TokenResult, 'keptKeys' | 'density' | 'mass' | 'bytes'> {
  const { batch, kvHeads, headDim } = cache.config
  const pairs = plan ? countPairs(plan) : { kept: 1, visible: 1 }
  const density = pairs.kept / pairs.visible
  const keptKeys = density * cache.length
  const least = lse.reduce((low, value, i) => Math.min(low, Math.exp(value - dense[i]!)), 1)
  return {
    ...{ keptKeys, density, mass: { mean: recall(lse, dense), least } },
    bytes: 2 * 2 * headDim * kvHeads * batch * keptKeys,
  }
}

function withTimes(
  result: TokenResult,
  total: Timing | undefined,
  attendOnly: Timing | undefined,
  { ceilings }: TokenOptions,
): TokenResult {
  if (!total) return result
  // A dense path has nothing to plan.
  const attend = attendOnly ?? total
  return {
    ...result,
    total,
    attend,
    planningShare: Math.max(0, 1 - attend.medianMs / total.medianMs),
    copyShare: result.bytes! / (attend.medianMs / 1000) / ceilings.bytesPerSecond,
  }
}
