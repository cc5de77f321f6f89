import { allowedError, type Ceilings, type GpuTimer, type Timing } from '@sparse-attention/compare'
import {
  type AttentionShape,
  type ConfiguredMethod,
  type HostPlan,
  type Plan,
  type Runtime,
  type SparseAttention,
  SparseAttentionError,
  type Tier,
  uploadPlan,
} from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import { dense } from '@sparse-attention/kernels'
import { errorOnDevice } from './check.js'
import { type Bands, type CallTensors, makeCallTensors } from './device-input.js'
import type { PyTorchReport } from './pytorch.js'
import { NotMeasured } from './row.js'
import { type Recorder, recordAttention, timeInTurn } from './timing.js'

/** `full`: the sizes that the targets are set for. `tiny`: the same calls on a software adapter, which takes a minute. */
export type Scale = 'full' | 'tiny'

export interface WorkbenchOptions {
  readonly runtime: Runtime
  readonly ceilings: Ceilings
  readonly scale: Scale
  readonly seed: number
  readonly samples: number
  readonly signal: AbortSignal
  readonly pytorch: PyTorchReport
  /** Of the runtime's device; undefined where it has none. Not disposed by the workbench. */
  readonly timer: GpuTimer | undefined
}

/** What rows of the table measure with. */
export class Workbench implements Disposable {
  readonly runtime: Runtime
  readonly ceilings: Ceilings
  readonly scale: Scale
  readonly seed: number
  readonly samples: number
  readonly signal: AbortSignal
  readonly pytorch: PyTorchReport
  readonly timer: GpuTimer | undefined
  readonly #ofTier = new Map<Tier, Runtime>()
  readonly #tensors = new Map<string, Promise<CallTensors>>()
  readonly #baselines = new Map<string, Promise<Baseline>>()

  constructor(options: WorkbenchOptions) {
    const { runtime, ceilings, scale, seed, samples, signal, pytorch, timer } = options
    this.runtime = runtime
    this.ceilings = ceilings
    this.scale = scale
    this.seed = seed
    this.samples = samples
    this.signal = signal
    this.pytorch = pytorch
    this.timer = timer
  }

  /** A length at this scale. */
  tokens(full: number): number {
    return this.scale === 'full' ? full : Math.max(128, Math.min(512, full / 64))
  }

  /** A number of heads at this scale. */
  heads(full: number): number {
    return this.scale === 'full' ? full : Math.max(1, full / 4)
  }

  /** A head_dim at this scale. */
  headDim(full: number): number {
    return this.scale === 'full' ? full : full / 4
  }

  /** Self-attention of one sequence at this scale, as many KV heads as query heads. */
  shape(length: number, headDim = 128, heads = 8): AttentionShape {
    const [tokens, count] = [this.tokens(length), this.heads(heads)]
    return {
      ...{ batch: 1, queryHeads: count, kvHeads: count },
      ...{ queryLength: tokens, keyLength: tokens, headDim: this.headDim(headDim) },
    }
  }

  /**
   * A runtime of a tier on the same device, disposed with the workbench.
   *
   * @throws NotMeasured where the device does not offer the tier
   */
  async ofTier(tier: Tier): Promise<Runtime> {
    if (tier === this.runtime.tier) return this.runtime
    const { device, adapterInfo, software, implementation } = this.runtime
    const options = { device, software, tier, implementation, ...(adapterInfo && { adapterInfo }) }
    try {
      const runtime = this.#ofTier.get(tier) ?? (await createRuntime(options))
      this.#ofTier.set(tier, runtime)
      return runtime
    } catch (error) {
      if (SparseAttentionError.is(error)) throw new NotMeasured('not available', error.message)
      throw error
    }
  }

  /** Tensors of a shape, shared by all rows that ask for the same, and disposed with the workbench. */
  tensors(shape: AttentionShape, bands?: Bands): Promise<CallTensors> {
    return remember(this.#tensors, JSON.stringify([shape, bands]), () =>
      makeCallTensors(this.runtime, shape, this.seed, bands),
    )
  }

  /** Dense attention of such tensors, checked once for all rows that compare with it. Disposed with the workbench. */
  baseline(shape: AttentionShape, causal: boolean, bands?: Bands): Promise<Baseline> {
    return remember(this.#baselines, JSON.stringify([shape, causal, bands]), async () => {
      const attention = await this.use(dense(), shape, causal)
      const tensors = await this.tensors(shape, bands)
      const { error } = await this.checked(attention, tensors)
      const lse = await this.runtime.read(tensors.lse)
      return { attention, error, lse, record: recordAttention(attention, tensors) }
    })
  }

  /** Compiles a method for tensors of a shape in f16. */
  use(
    method: ConfiguredMethod,
    { queryHeads, kvHeads, headDim }: AttentionShape,
    causal: boolean,
    runtime: Runtime = this.runtime,
  ): Promise<SparseAttention> {
    return runtime.use(method, { queryHeads, kvHeads, headDim, dtype: 'f16', causal })
  }

  /**
   * Runs an attention once and checks its answer.
   *
   * @param given attend over this plan, uploaded as `uploaded`; absent: its own
   * @returns the error; and what its own plan holds, as a copy to attend over again
   * @throws NotMeasured for an answer that is wrong
   */
  async checked(
    attention: SparseAttention,
    tensors: CallTensors,
    options: { readonly runtime?: Runtime; readonly given?: GivenPlan } = {},
  ): Promise<{ readonly error: number; readonly plan: Plan; readonly host: HostPlan | undefined }> {
    const { runtime = this.runtime, given } = options
    const { q, k, v, out, lse } = tensors
    const result = await attention.run(
      { q, k, v, out, lse },
      { signal: this.signal, ...(given && { plan: given.uploaded }) },
    )
    // A dense plan has no list of what it keeps; whoever asks gets all blocks, which says nothing more.
    const host = given?.host ?? (result.plan.path === 'dense' ? undefined : await result.plan.read())
    const { causal, scale } = attention.config
    const error = await errorOnDevice(runtime, tensors, { causal, scale, seed: this.seed }, host)
    if (!(error <= allowedError.f16)) throw wrong(attention.id, error)
    return { error, plan: given?.uploaded ?? result.plan.clone(), host }
  }

  /** A handmade plan on the device. The caller disposes of `uploaded`. */
  upload(host: HostPlan, shape: AttentionShape): GivenPlan {
    return { host, uploaded: uploadPlan(this.runtime, host, shape) }
  }

  time<Name extends string>(calls: Readonly<Record<Name, Recorder>>): Promise<Record<Name, Timing>> {
    return timeInTurn(this.runtime, this.timer, calls, this)
  }

  [Symbol.dispose](): void {
    for (const made of this.#baselines.values()) void made.then(({ attention }) => attention.dispose(), ignore)
    for (const made of this.#tensors.values()) void made.then((tensors) => tensors[Symbol.dispose](), ignore)
    for (const runtime of this.#ofTier.values()) runtime.dispose()
  }
}

/** What dense attention of some tensors is. */
export interface Baseline {
  readonly attention: SparseAttention
  readonly error: number
  readonly lse: Float32Array
  readonly record: Recorder
}

/** What cannot be made now may be made later, so failures are not kept. */
function remember<T>(kept: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
  const made = kept.get(key) ?? make()
  kept.set(key, made)
  made.catch(() => kept.delete(key))
  return made
}

function ignore(): void {}

export interface GivenPlan {
  readonly host: HostPlan
  readonly uploaded: Plan
}

export function wrong(name: string, error: number): NotMeasured {
  const seen = Number.isFinite(error) ? error.toExponential(1) : 'not a number'
  return new NotMeasured(
    'wrong result',
    `${name} is off by ${seen} from float64 in the rows checked; ${allowedError.f16} is allowed`,
    Number.isFinite(error) ? error : null,
  )
}

/** Pairs of query and key that are visible, of one sequence. */
export function visibleOf({ queryHeads, queryLength, keyLength }: AttentionShape, causal: boolean): number {
  const pairs = causal
    ? queryLength * (keyLength - queryLength) + (queryLength * (queryLength + 1)) / 2
    : queryLength * keyLength
  return queryHeads * pairs
}

/** q, k, v and output in f16 and LSE, each moved once. */
export function compulsoryBytes({ queryHeads, kvHeads, queryLength, keyLength, headDim }: AttentionShape): number {
  return 4 * headDim * (queryHeads * queryLength + kvHeads * keyLength) + 4 * queryHeads * queryLength
}

/** Such as `16384 tokens, 8 heads of 128, causal`. */
export function describe(
  { queryHeads, kvHeads, queryLength, keyLength, headDim }: AttentionShape,
  causal: boolean,
): string {
  const tokens = queryLength === keyLength ? `${keyLength} tokens` : `${queryLength} query, ${keyLength} keys`
  const heads = queryHeads === kvHeads ? `${queryHeads} heads` : `${queryHeads} heads over ${kvHeads}`
  return `${tokens}, ${heads} of ${headDim}${causal ? ', causal' : ''}`
}
