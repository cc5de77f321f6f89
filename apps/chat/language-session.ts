import type { ConfiguredMethod, MethodFactory, MethodOptions, Runtime } from '@sparse-attention/core'
import { cacheForMethods } from '@sparse-attention/decode'
import { dense } from '@sparse-attention/kernels'
import type { LanguageModel } from '@sparse-attention/models'
import { AttentionModel, type GenerationStatistics, type Ort } from '@sparse-attention/onnxruntime'
import { type MethodPair, Pane } from './conversation.js'
import { methodOf } from './methods.js'

/** A method by name, with options that differ from its own. */
export interface MethodChoice {
  readonly id: string
  readonly options: MethodOptions
}

/** Tokens of a page of the caches: Quest's. */
const pageSize = 16
/** Tokens that a method reads on a CPU before it is timed, in which drivers finish compiling. */
const warmUpTokens = 64

/** Exact attention, for prompts and for single tokens that are read from pages. */
export const densePair: MethodPair = { prefill: dense(), decode: dense({ kernel: 'split' }) }

/** The model as loaded, with everything that conversations share. */
export class LanguageSession implements AsyncDisposable {
  /** One object a choice: each is compiled once. */
  readonly #configured = new Map<string, ConfiguredMethod>()
  readonly #pairs = new Map<string, MethodPair>()
  readonly #warm = new Set<string>()

  private constructor(
    readonly runtime: Runtime,
    readonly language: LanguageModel,
    private readonly model: AttentionModel,
  ) {}

  static async load(
    runtime: Runtime,
    ort: Ort,
    language: LanguageModel,
    options: { readonly signal: AbortSignal; readonly onStep: (done: number, total: number) => void },
  ): Promise<LanguageSession> {
    const model = await AttentionModel.load(runtime, ort, language.model, {
      attention: () => densePair,
      cache: { pageSize },
      captureSteps: { capacity: language.config.maxLength },
      preferredOutputLocation: 'gpu-buffer',
      // Weights are made float32 once, not for every token.
      sessionOptions: { extra: { session: { disable_quant_qdq: '1' } } },
      signal: options.signal,
      onProgress: ({ done, total }) => options.onStep(done, total),
    })
    return new LanguageSession(runtime, language, model)
  }

  /** @throws INVALID_OPTION for options that a method does not take */
  pair(prefill: MethodChoice, decode: MethodChoice): MethodPair {
    const key = JSON.stringify([prefill, decode])
    const known = this.#pairs.get(key)
    if (known) return known
    const made = { prefill: this.#configure(prefill), decode: this.#configure(decode) }
    this.#pairs.set(key, made)
    return made
  }

  #configure({ id, options }: MethodChoice): ConfiguredMethod {
    const key = JSON.stringify([id, options])
    const known = this.#configured.get(key)
    if (known) return known
    const factory: MethodFactory = methodOf(id)
    const made = factory(options)
    this.#configured.set(key, made)
    return made
  }

  /** @param capacity tokens of everything that is read and written, at most */
  async createPane(capacity: number): Promise<Pane> {
    const cache = await this.model.createCache({ capacity, kvCache: cacheForMethods(pageSize) })
    return new Pane(this.model, this.language.tokenizer, cache)
  }

  /**
   * Compiles, so that a time to the first token is one of computing. A GPU reads the whole prompt and is looked into, once a
   * conversation; a CPU reads its beginning, once for each method.
   *
   * @returns statistics of reading, of a GPU
   */
  async warmUp(
    pane: Pane,
    prompt: readonly number[],
    attention: MethodPair,
    signal: AbortSignal,
  ): Promise<GenerationStatistics | undefined> {
    const { software } = this.runtime
    const key = JSON.stringify([attention.prefill, attention.decode].map(({ method, options }) => [method.id, options]))
    if (software && this.#warm.has(key)) return undefined
    try {
      const { written } = await pane.turn(software ? prompt.slice(0, warmUpTokens) : prompt, {
        attention,
        sampling: { seed: 0 },
        // Recorded steps are checked at the first single token, and used from the second. Only reading is looked into.
        maxNewTokens: software ? 2 : 3,
        statisticsEvery: software ? 0 : 3,
        statisticsFrom: 0,
        signal,
        onToken: () => {},
      })
      this.#warm.add(key)
      return written[0]?.statistics
    } finally {
      pane.reset()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.model.dispose()
  }
}
