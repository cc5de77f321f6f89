import { type AttentionContext, type Citation, SparseAttentionError } from '@sparse-attention/core'

/** One evaluation of a model in a sampler's loop. */
export interface StepCall extends Required<Pick<AttentionContext, 'step' | 'steps'>>, Pick<AttentionContext, 'branch'> {
  /**
   * What tells how far this step is from the one before: the model's timestep embedding, modulated where that can be had, else
   * `timestepEmbedding`. Of one length in all steps of a branch.
   */
  readonly signal: ArrayLike<number>
  /** The model's input. Needed with `reuse: 'residual'`. */
  readonly input?: Float32Array
}

export interface StepResult<Output> {
  /** The evaluation's, or what is reused of an earlier one. */
  readonly output: Output
  /** true: the model was not run. */
  readonly reused: boolean
}

/** A plugin that wraps whole evaluations of a model. */
export interface StepPlugin<Output> {
  readonly kind: 'step'
  readonly id: string
  readonly citation: Citation
  /**
   * The output of a step. Calls of a branch come in the order of their steps.
   *
   * @param evaluate  runs the model; not called where its output is reused, so that nothing inside of it advances
   * @throws INVALID_ARGUMENT for steps out of order, of another count, or signals and inputs that do not fit
   */
  run(call: StepCall, evaluate: () => Promise<Output>): Promise<StepResult<Output>>
  /** Evaluations and reuses since the last reset, over all branches. */
  readonly counts: { readonly evaluated: number; readonly reused: number }
  /** Forgets everything: for a new video. */
  reset(): void
}

export interface StepCacheOptions<Output> {
  /** Accumulated change up to which an output is reused. 0: never. Default 0.1. */
  readonly threshold?: number
  /**
   * Polynomial that rescales the relative change of the signal to that of the output, highest power first; of each model, fitted.
   * Default [1, 0]: as it is.
   */
  readonly coefficients?: readonly number[]
  /** Steps at the start, and at the end, that are always evaluated. Default 1 each; at least 1. */
  readonly firstSteps?: number
  readonly lastSteps?: number
  /**
   * What is kept: the output itself, or its difference from the input, which is added to the input of the step that reuses it.
   * Residuals are of f32 arrays only. Default 'output'.
   */
  readonly reuse?: 'output' | 'residual'
  /** Called with an output that is no longer kept, to free what it holds. Arrays need none: they are copied. */
  readonly release?: (output: Output) => void
}

/** What is kept of a branch. */
interface Branch<Output> {
  step: number
  steps: number
  signal: Float64Array
  accumulated: number
  /** Of the last evaluation: its output, or the residual. */
  kept: Output
}

/**
 * TeaCache: most of a sampler's steps change the model's output little, and its timestep embedding tells by how much. The relative
 * L1 change of the embedding from step to step is rescaled and added up; while the sum stays below a threshold the last output
 * is reused instead of running the model. Branches of guidance are kept apart. Liu 2024, arXiv 2411.19108, §3.3.
 *
 * Composes with sparse attention: a step that is reused runs no attention, so what its methods carry does not advance.
 *
 * ```ts
 * const cache = stepCache<Float32Array>({ threshold: 0.15 })
 * for (let step = 0; step < steps; step++) {
 *   const signal = timestepEmbedding(1000 * sigma[step], 256)
 *   const velocity = async (branch: 'conditional' | 'unconditional') => {
 *     const { output } = await cache.run({ step, steps, branch, signal }, () => model(latent, sigma[step], branch))
 *     return output
 *   }
 *   const [c, u] = [await velocity('conditional'), await velocity('unconditional')]
 *   latent = latent.map((x, i) => x + (sigma[step + 1] - sigma[step]) * (u[i] + guidance * (c[i] - u[i])))
 * }
 * cache.counts // { evaluated: 34, reused: 66 }
 * cache.reset() // before the next video
 * ```
 *
 * @throws INVALID_OPTION
 */
export function stepCache<Output = Float32Array>(options: StepCacheOptions<Output> = {}): StepPlugin<Output> {
  return new StepCache(checkOptions(options))
}

type Options<Output> = Required<Omit<StepCacheOptions<Output>, 'release'>> & Pick<StepCacheOptions<Output>, 'release'>

class StepCache<Output> implements StepPlugin<Output> {
  readonly kind = 'step'
  readonly id = 'step-cache'
  readonly citation: Citation = {
    title: 'Timestep Embedding Tells: It’s Time to Cache for Video Diffusion Model',
    authors: 'Liu, Zhang, Wang, Wei, Qiu, Zhao, Zhang, Ye, Wan',
    year: 2024,
    arxiv: '2411.19108',
    url: 'https://arxiv.org/abs/2411.19108',
  }
  readonly #branches = new Map<string, Branch<Output>>()
  #counts = { evaluated: 0, reused: 0 }

  constructor(private readonly options: Options<Output>) {}

  get counts(): { readonly evaluated: number; readonly reused: number } {
    return { ...this.#counts }
  }

  async run(call: StepCall, evaluate: () => Promise<Output>): Promise<StepResult<Output>> {
    const { step, steps, branch = '', signal, input } = call
    const before = this.#branches.get(branch)
    checkCall(call, before, this.options.reuse)
    const { threshold, firstSteps, lastSteps } = this.options
    const accumulated = before ? before.accumulated + this.#rescaled(relativeChange(signal, before.signal)) : 0
    // The first evaluation of a branch has nothing to reuse, whatever its step.
    if (before && step >= firstSteps && step < steps - lastSteps && accumulated < threshold) {
      Object.assign(before, { step, signal: Float64Array.from(signal), accumulated })
      this.#counts.reused++
      return { output: this.#restore(before.kept, input), reused: true }
    }
    // An evaluation that fails leaves everything as it was: the step may be tried again.
    const output = await evaluate()
    const kept = this.#keep(output, input)
    this.#branches.set(branch, { step, steps, signal: Float64Array.from(signal), accumulated: 0, kept })
    if (before) this.#drop(before)
    this.#counts.evaluated++
    return { output, reused: false }
  }

  reset(): void {
    for (const branch of this.#branches.values()) this.#drop(branch)
    this.#branches.clear()
    this.#counts = { evaluated: 0, reused: 0 }
  }

  /** Horner's scheme. */
  #rescaled(change: number): number {
    return this.options.coefficients.reduce((sum, coefficient) => sum * change + coefficient, 0)
  }

  #keep(output: Output, input: Float32Array | undefined): Output {
    if (this.options.reuse === 'output') return output instanceof Float32Array ? (output.slice() as Output) : output
    if (!(output instanceof Float32Array) || output.length !== input?.length) {
      throw new SparseAttentionError('INVALID_ARGUMENT', {
        message: `The output ${output instanceof Float32Array ? `has ${output.length} elements, the input ${input?.length}` : 'is no f32 array'}, so there is no residual.`,
        fix: "Use reuse: 'output', or give an input of the output's shape.",
        where: 'reuse',
      })
    }
    return output.map((x, i) => x - input[i]!) as Output
  }

  #restore(kept: Output, input: Float32Array | undefined): Output {
    if (!(kept instanceof Float32Array)) return kept
    if (this.options.reuse === 'output') return kept.slice() as Output
    return kept.map((x, i) => x + input![i]!) as Output
  }

  #drop({ kept }: Branch<Output>): void {
    if (!(kept instanceof Float32Array)) this.options.release?.(kept)
  }
}

/** Σ|now − before| ÷ Σ|before|; 0 where nothing changes, also from zeros. */
function relativeChange(now: ArrayLike<number>, before: Float64Array): number {
  let [change, size] = [0, 0]
  for (let i = 0; i < before.length; i++) {
    change += Math.abs(now[i]! - before[i]!)
    size += Math.abs(before[i]!)
  }
  return change === 0 ? 0 : change / size
}

/**
 * The sinusoidal embedding that diffusion transformers make of a timestep: cosines, then sines, of frequencies from 1 down to
 * 1/10000. For models whose own embedding cannot be had.
 *
 * @param timestep  usually 0 to 1000
 * @param size      even
 */
export function timestepEmbedding(timestep: number, size: number): Float32Array {
  const half = size / 2
  if (!Number.isSafeInteger(half) || half < 1) {
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: `The size of the embedding is ${size}.`,
      fix: 'Use an even number from 2.',
      where: 'size',
    })
  }
  return Float32Array.from({ length: size }, (_, i) => {
    const angle = timestep * 10000 ** (-(i % half) / half)
    return i < half ? Math.cos(angle) : Math.sin(angle)
  })
}

function checkOptions<Output>({
  threshold = 0.1,
  coefficients = [1, 0],
  firstSteps = 1,
  lastSteps = 1,
  reuse = 'output',
  release,
}: StepCacheOptions<Output>): Options<Output> {
  const refuse = (name: string, value: unknown, fix: string): never => {
    throw new SparseAttentionError('INVALID_OPTION', {
      message: `step-cache: option '${name}' is ${JSON.stringify(value) ?? String(value)}.`,
      fix,
      where: name,
    })
  }
  if (!(threshold >= 0 && Number.isFinite(threshold))) refuse('threshold', threshold, 'Use a number from 0.')
  if (coefficients.length === 0 || !coefficients.every(Number.isFinite))
    refuse('coefficients', coefficients, 'Use the coefficients of a polynomial, highest power first.')
  for (const [name, count] of Object.entries({ firstSteps, lastSteps })) {
    if (!Number.isSafeInteger(count) || count < 1) refuse(name, count, 'Use an integer from 1.')
  }
  if (reuse !== 'output' && reuse !== 'residual') refuse('reuse', reuse, "Use 'output' or 'residual'.")
  return { threshold, coefficients, firstSteps, lastSteps, reuse, ...(release && { release }) }
}

function checkCall<Output>(
  { step, steps, signal, input }: StepCall,
  before: Branch<Output> | undefined,
  reuse: 'output' | 'residual',
): void {
  const refuse = (where: string, message: string, fix: string): never => {
    throw new SparseAttentionError('INVALID_ARGUMENT', { message, fix, where })
  }
  if (!Number.isSafeInteger(steps) || !Number.isSafeInteger(step) || step < 0 || step >= steps)
    refuse('step', `Step ${step} of ${steps} is none.`, 'Count steps from 0 to steps − 1.')
  if (before && (step <= before.step || steps !== before.steps)) {
    refuse(
      'step',
      `Step ${step} of ${steps} comes after step ${before.step} of ${before.steps}.`,
      'Call reset() before a new video, and give the steps of a branch in order.',
    )
  }
  if (signal.length === 0 || !Array.from(signal).every(Number.isFinite))
    refuse('signal', 'The signal is empty or holds a number that is not finite.', 'Pass the timestep embedding.')
  if (before && signal.length !== before.signal.length) {
    refuse(
      'signal',
      `The signal has ${signal.length} elements, that of the step before ${before.signal.length}.`,
      'Use the same embedding in every step.',
    )
  }
  if (reuse === 'residual' && !input) refuse('input', 'input is missing.', "Pass it, or use reuse: 'output'.")
  if (before?.kept instanceof Float32Array && reuse === 'residual' && input!.length !== before.kept.length) {
    refuse('input', `input has ${input!.length} elements, the residual ${before.kept.length}.`, 'Use one shape.')
  }
}
