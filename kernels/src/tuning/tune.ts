import {
  type DType,
  type Runtime,
  type SparseAttention,
  SparseAttentionError,
  type TuningTable,
} from '@sparse-attention/core'
import {
  emitVariant,
  type FlashCall,
  type FlashVariant,
  fitsDevice,
  flashVariants,
  variantName,
} from '../flash-attention/variants.js'
import { FLASH_ATTENTION, sourcesHash } from './choose-variant.js'
import { geometricMean, type Outcome, successiveHalving } from './halving.js'
import { answerOf, type CallShape, makeTensors, timeSamples, variantAttention } from './measure.js'

/** The kind of call to tune for, as `runtime.use` takes it. */
export interface TuneCall {
  readonly headDim: number
  readonly dtype: DType
  readonly causal: boolean
  /** Tokens of queries and keys to time. Default: by the adapter's speed a longest one, half and a fourth of it. */
  readonly lengths?: readonly number[]
}

export interface TuneOptions {
  /** Stops between two samples; the call rejects with the signal's reason. */
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: TuneProgress) => void
  /**
   * Milliseconds for measuring; compiling may take as long again, and variants that are not compiled by then do not take part.
   * Default 2000, on the CPU 10000.
   */
  readonly budgetMs?: number
}

export interface TuneProgress {
  readonly phase: 'compile' | 'check' | 'measure'
  readonly variant: string
  readonly elapsedMs: number
  /** Twice the budget: usually less. */
  readonly mostMs: number
}

/** What became of a variant. */
export interface VariantReport {
  readonly variant: string
  /** By length: the median, null where it was not timed. */
  readonly ms: readonly (number | null)[]
  /** By length: its time divided by the default's beside it, null where it was not timed. */
  readonly ratios: readonly (number | null)[]
  /** Why it lost, or did not take part. Null for the winner and the default. */
  readonly left: 'slower' | 'no time' | 'no room' | 'not compiled' | 'wrong' | null
}

export interface TuneReport {
  /** One entry: the winner, which may be the default. For `createRuntime({ tuning })` and `saveTuning`. */
  readonly table: TuningTable
  readonly winner: string
  readonly lengths: readonly number[]
  /** The default first. */
  readonly variants: readonly VariantReport[]
  readonly elapsedMs: number
}

/** Heads of the calls that are timed. */
const HEADS = 8

/** Neither length is a multiple of any tile, and the first holds more than a workgroup of the largest kind. */
const CHECKED: CallShape = { queryHeads: 2, kvHeads: 1, queryLength: 333, keyLength: 397 }

/** The longest length to time unasked, and the shortest. */
const LONGEST = 16384
const SHORTEST = 64

/** Compiled at once. */
const AT_ONCE = 4
/** Shares of the time for measuring: of warming up, and of one call of the longest length. */
const WARMING_UP = 0.25
const ONE_CALL = 0.01
/** A sample's, at least: clocks of browsers are coarse. */
const SAMPLE_MS = 8
/** Of calls up to this long all candidates' are queued at once: longer ones must stop when they are told to. */
const TOGETHER_MS = 50

/**
 * Times the variants of flash attention on this device, for one kind of call, and says which is the fastest. Each must first
 * give the default's result. Nothing else in this library measures anything.
 *
 * The device should have nothing else to do meanwhile. Memory: q, k, v and output of 8 heads at the longest length.
 *
 * @throws INVALID_ARGUMENT, UNSUPPORTED for a call that no attention takes
 * @throws PIPELINE_FAILED when the default itself does not compile
 */
export async function tune(runtime: Runtime, call: TuneCall, options: TuneOptions = {}): Promise<TuneReport> {
  checkLengths(call.lengths)
  return new Tuning(runtime, call, options).run(flashVariants(runtime, call))
}

function checkLengths(lengths: readonly number[] | undefined): void {
  if (!lengths) return
  const valid = (length: number) => Number.isSafeInteger(length) && length > 0 && length <= 2 ** 20
  if (lengths.length > 0 && lengths.every(valid)) return
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: `lengths is [${lengths.map(String).slice(0, 8)}].`,
    fix: 'List at least one positive integer up to 1048576, or leave it out.',
    where: 'lengths',
  })
}

interface Candidate {
  readonly variant: FlashVariant
  readonly name: string
  left: VariantReport['left']
}

class Tuning {
  readonly #runtime: Runtime
  readonly #call: TuneCall
  readonly #signal: AbortSignal | undefined
  readonly #onProgress: TuneOptions['onProgress']
  readonly #budgetMs: number
  readonly #start = performance.now()
  /** When measuring must end. */
  #end = Number.POSITIVE_INFINITY

  constructor(runtime: Runtime, call: TuneCall, { signal, onProgress, budgetMs }: TuneOptions) {
    this.#runtime = runtime
    this.#call = call
    this.#signal = signal
    this.#onProgress = onProgress
    this.#budgetMs = budgetMs ?? (runtime.software ? 10_000 : 2000)
  }

  async run(variants: readonly FlashVariant[]): Promise<TuneReport> {
    const candidates = variants.map((variant): Candidate => ({ variant, name: variantName(variant), left: 'no time' }))
    const usual = candidates[0]!
    await this.#compile(candidates)
    await this.#check(candidates)
    const taking = candidates.filter(({ left }) => left === null)
    this.#end = performance.now() + this.#budgetMs
    const { operationsPerSecond, lengths } = await this.#warmUp(usual)
    const outcome = await this.#race(taking, lengths, operationsPerSecond)
    return this.#report(candidates, taking, lengths, outcome, operationsPerSecond)
  }

  get #elapsedMs(): number {
    return performance.now() - this.#start
  }

  #step(phase: TuneProgress['phase'], { name }: Candidate): void {
    this.#signal?.throwIfAborted()
    this.#onProgress?.({ phase, variant: name, elapsedMs: this.#elapsedMs, mostMs: 2 * this.#budgetMs })
  }

  /** Compiles as many as time allows, in their order; those that are ready have nothing left to say. */
  async #compile(candidates: readonly Candidate[]): Promise<void> {
    const { dtype, headDim, causal } = this.#call
    const compile = async (candidate: Candidate) => {
      const sources = emitVariant(this.#runtime, candidate.variant, { dtype, headDim, causal, plan: 'block' })
      if (!sources.every((source) => fitsDevice(this.#runtime, source))) {
        candidate.left = 'no room'
        return
      }
      await Promise.all(sources.map((source) => this.#runtime.kernel(source)))
      candidate.left = null
    }
    const [usual, ...others] = candidates
    this.#step('compile', usual!)
    // Also refuses calls that no attention takes.
    const attention = await variantAttention(this.#runtime, this.#call, CHECKED, usual!)
    attention.dispose()
    usual!.left = null
    for (let i = 0; i < others.length && this.#elapsedMs < this.#budgetMs; i += AT_ONCE) {
      this.#step('compile', others[i]!)
      await Promise.all(
        others.slice(i, i + AT_ONCE).map((candidate) =>
          compile(candidate).catch((error: unknown) => {
            if (!SparseAttentionError.is(error) || error.code !== 'PIPELINE_FAILED') throw error
            candidate.left = 'not compiled'
          }),
        ),
      )
    }
  }

  /** Leaves out those whose results differ from the default's by more than rounding. */
  async #check(candidates: readonly Candidate[]): Promise<void> {
    using tensors = makeTensors(this.#runtime, this.#call, CHECKED)
    const answer = async (variant: FlashVariant) => {
      using attention = await variantAttention(this.#runtime, this.#call, CHECKED, { variant })
      return await answerOf(this.#runtime, attention, tensors)
    }
    const expected = await answer(candidates[0]!.variant)
    const verdicts = new Map<string, boolean>()
    for (const candidate of candidates.slice(1)) {
      if (candidate.left !== null) continue
      this.#step('check', candidate)
      for (const single of singleForms(candidate.variant)) {
        const name = variantName(single)
        const right = verdicts.get(name) ?? sameAnswer(await answer(single), expected, this.#call.dtype)
        verdicts.set(name, right)
        if (!right) candidate.left = 'wrong'
      }
    }
  }

  /**
   * Keeps the GPU busy until its clocks are up, and finds out on the way how fast the default is, and with it which lengths
   * there is time for.
   */
  async #warmUp(usual: Candidate): Promise<{ operationsPerSecond: number; lengths: readonly number[] }> {
    const given = this.#call.lengths
    let length = Math.min(SHORTEST, ...(given ?? []))
    const longest = given ? Math.max(...given) : LONGEST
    using attention = await variantAttention(this.#runtime, this.#call, callOf(length), usual)
    let tensors = makeTensors(this.#runtime, this.#call, callOf(length))
    let operationsPerSecond = 0
    const sample = async (calls: number): Promise<number> => {
      this.#step('measure', usual)
      const [ms] = await timeSamples(this.#runtime, [{ attention, tensors, calls }], false)
      operationsPerSecond = Math.max(operationsPerSecond, operationsOf(this.#call, length) / (ms! / 1000))
      return ms!
    }
    try {
      await sample(1) // the first one is slow
      let ms = await sample(1)
      while (ms < SAMPLE_MS / 4 && 2 * length <= longest) {
        tensors[Symbol.dispose]()
        length *= 2
        tensors = makeTensors(this.#runtime, this.#call, callOf(length))
        ms = Math.min(await sample(1), await sample(1))
      }
      const warm = performance.now() + WARMING_UP * this.#budgetMs
      while (performance.now() < warm) await sample(Math.max(1, Math.ceil((2 * SAMPLE_MS) / ms)))
    } finally {
      tensors[Symbol.dispose]()
    }
    if (given) return { operationsPerSecond, lengths: [...new Set(given)].sort((a, b) => b - a) }
    const oneCall = ((ONE_CALL * this.#budgetMs) / 1000) * operationsPerSecond
    let most = LONGEST
    while (most > SHORTEST && operationsOf(this.#call, most) > oneCall) most /= 2
    return { operationsPerSecond, lengths: [most, most / 2, most / 4].filter((n) => n >= SHORTEST) }
  }

  async #race(taking: readonly Candidate[], lengths: readonly number[], operationsPerSecond: number): Promise<Outcome> {
    const attentions: SparseAttention[] = []
    const inputs = lengths.map((length) => makeTensors(this.#runtime, this.#call, callOf(length)))
    try {
      for (const { variant } of taking) {
        attentions.push(await variantAttention(this.#runtime, this.#call, callOf(1), { variant, operationsPerSecond }))
      }
      return await successiveHalving({
        candidates: taking.length,
        cases: lengths.length,
        time: (candidates, which) => {
          this.#step('measure', taking[candidates.at(-1)!]!)
          const ms = (operationsOf(this.#call, lengths[which]!) / operationsPerSecond) * 1000
          const calls = Math.max(1, Math.ceil(SAMPLE_MS / ms))
          const samples = candidates.map((i) => ({ attention: attentions[i]!, tensors: inputs[which]!, calls }))
          return timeSamples(this.#runtime, samples, ms <= TOGETHER_MS)
        },
        timeLeft: () => performance.now() < this.#end,
      })
    } finally {
      for (const attention of attentions) attention.dispose()
      for (const tensors of inputs) tensors[Symbol.dispose]()
    }
  }

  #report(
    candidates: readonly Candidate[],
    taking: readonly Candidate[],
    lengths: readonly number[],
    { winner, standings }: Outcome,
    estimate: number,
  ): TuneReport {
    const { headDim, dtype, causal } = this.#call
    const won = taking[winner]!
    const { ms, ratios } = standings[winner]!
    // The longest length's: short calls leave a large GPU idle.
    const operationsPerSecond = ms[0]! > 0 ? operationsOf(this.#call, lengths[0]!) / (ms[0]! / 1000) : estimate
    const timeRatio = winner === 0 ? 1 : Math.min(1, geometricMean(ratios))
    const { identity, tier } = this.#runtime
    const sources = sourcesHash(this.#runtime, this.#call, won.variant)
    return {
      table: {
        version: 1,
        entries: [
          {
            ...{ kernel: FLASH_ATTENTION, adapter: identity, tier, dtype, headDim, causal },
            ...{ variant: won.name, sources, operationsPerSecond, timeRatio },
          },
        ],
      },
      winner: won.name,
      lengths,
      variants: candidates.map((candidate) => {
        const standing = standings[taking.indexOf(candidate)]
        const numbers = (values: readonly number[] | undefined) =>
          lengths.map((_, i) => (values && Number.isFinite(values[i]) ? values[i]! : null))
        const timed = standing?.ms.every((number) => number > 0)
        return {
          variant: candidate.name,
          ms: numbers(standing?.ms),
          ratios: numbers(standing?.ratios),
          left:
            candidate.left ?? (candidate === won || candidate === candidates[0] ? null : timed ? 'slower' : 'no time'),
        }
      }),
      elapsedMs: this.#elapsedMs,
    }
  }
}

const callOf = (length: number): CallShape => ({
  queryHeads: HEADS,
  kvHeads: HEADS,
  queryLength: length,
  keyLength: length,
})

/** A multiply-add counted as two, of every visible pair. */
function operationsOf({ headDim, causal }: FlashCall, length: number): number {
  const pairs = causal ? (length * (length + 1)) / 2 : length * length
  return 4 * HEADS * headDim * pairs
}

/** A variant of several forms as variants of one each, which take calls of any size. */
function singleForms(variant: FlashVariant): FlashVariant[] {
  if (variant.emitter !== 'matrix') return [variant]
  return variant.forms.map((form) => ({ emitter: 'matrix', forms: [{ ...form, workgroups: 0 }] }))
}

type Answer = Awaited<ReturnType<typeof answerOf>>

function sameAnswer(actual: Answer, expected: Answer, dtype: DType): boolean {
  // f32: sums in another order, 400 terms of 2⁻²⁴ each. f16: an ulp at the output, one of the weights on matrices.
  const tolerance = dtype === 'f16' ? 2 ** -8 : 1e-4
  return closeTo(actual.out, expected.out, tolerance) && closeTo(actual.lse, expected.lse, tolerance)
}

/** Within a share of the largest number. A row's −∞ must be one. */
function closeTo(actual: Float32Array, expected: Float32Array, tolerance: number): boolean {
  let largest = 0
  for (const value of expected) if (Number.isFinite(value)) largest = Math.max(largest, Math.abs(value))
  return expected.every((value, i) => value === actual[i] || Math.abs(value - actual[i]!) <= tolerance * largest)
}
