import { performance } from 'node:perf_hooks'
import { mean, median } from '@sparse-attention/compare'
import type { ConfiguredMethod } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { heldOutPassage, isCorrect, type LanguageModel, needle } from '@sparse-attention/models'
import { type AttentionMethod, type HostTimes, type ModelCache, nextToken } from '@sparse-attention/onnxruntime'
import { medianHostTimes } from './host-times.js'
import type { LoadedForGeneration } from './load-for-generation.js'

/** What a method writes beside dense decoding, after one passage. */
export interface TextQuality {
  /** Kept keys ÷ those so far, over layers and heads, in every 16th step of the text. */
  readonly density: number
  /** Share of the tokens of the dense text that the method, having read what is before them, would write too. */
  readonly agreement: number
  /** Tokens that its own text has in common with the dense one before the first that differs. */
  readonly samePrefix: number
  /** Median of a step of the text that was not looked into. */
  readonly tokenMs: number
  /** Where that went: medians of those steps. */
  readonly hostTimes: HostTimes
}

/** What is left of dense decoding with a method in its place. */
export interface DecodeQuality extends TextQuality {
  readonly method: ConfiguredMethod
  /** Prompts whose whole answer was written, question and answer read token by token. */
  readonly needles: number
}

export interface DecodeQualityOptions {
  readonly loaded: LoadedForGeneration
  readonly language: LanguageModel
  /** Ids of the book. */
  readonly text: ArrayLike<number>
  /** Dense first. */
  readonly methods: readonly ConfiguredMethod[]
  /** Tokens of each prompt. */
  readonly length: number
  /** Tokens of the dense text. */
  readonly tokens: number
  readonly samples: number
  readonly seed: number
  readonly signal: AbortSignal
  readonly onStep: (label: string) => void
}

/** Steps of `measureDecodeQuality`, for a progress bar. */
export function qualitySteps({ methods, samples }: Pick<DecodeQualityOptions, 'methods' | 'samples'>): number {
  return methods.length * (samples + 1)
}

/** Tokens behind a prompt that an answer may take. */
export const answerTokens = 64

const looksEvery = 16

/**
 * Greedy decoding after a prompt that dense attention has read, by each method from the same keys and values: on a passage
 * of the book against the text that dense decoding writes there, and on needles.
 */
export async function measureDecodeQuality(options: DecodeQualityOptions): Promise<DecodeQuality[]> {
  const { methods, samples, seed } = options
  using meter = await DecodeMeter.create(options)
  const texts = await meter.text(seed)
  const needles = methods.map(() => 0)
  for (let i = 0; i < samples; i++) {
    for (const [m, correct] of (await meter.needle(seed + i)).entries()) if (correct) needles[m]!++
  }
  return methods.map((method, i) => ({ method, ...texts[i]!, needles: needles[i]! }))
}

type MeterOptions = Omit<DecodeQualityOptions, 'samples' | 'seed'>

/** Measures methods on one passage or needle after another. */
export class DecodeMeter implements Disposable {
  readonly #options: MeterOptions
  readonly #cache: ModelCache
  readonly #reader: Reader

  private constructor(options: MeterOptions, cache: ModelCache) {
    this.#options = options
    this.#cache = cache
    this.#reader = new Reader(options.loaded, cache, options.signal)
  }

  static async create(options: MeterOptions): Promise<DecodeMeter> {
    const { loaded, length, tokens } = options
    return new DecodeMeter(options, await loaded.createCache(length + Math.max(tokens, answerTokens)))
  }

  /** The text that dense decoding writes after one passage, beside what each method would write in its place. */
  async text(seed: number): Promise<TextQuality[]> {
    const { language, text, methods, length, tokens, onStep } = this.#options
    const reader = this.#reader
    const passage = Array.from(heldOutPassage({ text, length, seed, bos: language.config.bos }))
    await reader.readPrompt(passage.slice(0, -1))
    const written: number[] = []
    const texts: TextQuality[] = []
    for (const [i, method] of methods.entries()) {
      reader.rewind()
      const densities: number[] = []
      const times: number[] = []
      const parts: HostTimes[] = []
      const chosen: number[] = []
      for (let at = 0, token = passage.at(-1)!; at < tokens; at++) {
        const looks = at % looksEvery === looksEvery - 1
        const start = performance.now()
        const { next, density, hostTimes } = await reader.step(token, method, looks)
        if (density !== undefined) densities.push(density)
        else {
          times.push(performance.now() - start)
          parts.push(hostTimes!)
        }
        chosen.push(next)
        if (i === 0) written.push(next)
        token = written[at]!
      }
      const same = chosen.map((token, at) => token === written[at])
      const first = same.indexOf(false)
      texts.push({
        density: mean(densities),
        agreement: mean(same.map(Number)),
        samePrefix: first < 0 ? tokens : first,
        tokenMs: median(times),
        hostTimes: medianHostTimes(parts),
      })
      onStep(`${method.method.id}: text`)
    }
    return texts
  }

  /**
   * One needle.
   *
   * @returns of each method: it wrote the whole answer
   */
  async needle(seed: number): Promise<boolean[]> {
    const { language, text, methods, length, onStep } = this.#options
    const { config, tokenizer } = language
    const reader = this.#reader
    const sample = needle({ tokenizer, text, length, seed, bos: config.bos })
    const questionAt = length - tokenizer.encode(sample.question).length
    await reader.readPrompt(Array.from(sample.prompt.subarray(0, questionAt)))
    const found: boolean[] = []
    for (const method of methods) {
      reader.rewind()
      let next = -1
      for (const token of sample.prompt.subarray(questionAt)) next = (await reader.step(token, method, false)).next
      const answer = [next]
      while (answer.length < sample.answer.length) {
        next = (await reader.step(next, method, false)).next
        answer.push(next)
      }
      found.push(isCorrect(sample, answer))
      onStep(`${method.method.id}: needle`)
    }
    return found
  }

  [Symbol.dispose](): void {
    this.#cache.dispose()
  }
}

const exact: ConfiguredMethod = dense()

/** Reads tokens into a cache whether they are what the model would have written or not. */
class Reader {
  #promptLength = 0

  constructor(
    private readonly loaded: LoadedForGeneration,
    private readonly cache: ModelCache,
    private readonly signal: AbortSignal,
  ) {}

  async readPrompt(ids: readonly number[]): Promise<void> {
    this.cache.reset()
    await this.#read(ids, { prefill: exact, decode: exact }, false)
    this.#promptLength = this.cache.length
  }

  /** Forgets everything behind the prompt. */
  rewind(): void {
    this.cache.truncate(this.#promptLength)
  }

  async step(
    token: number,
    decode: ConfiguredMethod,
    looks: boolean,
  ): Promise<{ next: number; density: number | undefined; hostTimes: HostTimes | undefined }> {
    return this.#read([token], { prefill: exact, decode }, looks)
  }

  async #read(ids: readonly number[], attention: AttentionMethod, looks: boolean) {
    const { cache, signal } = this
    const options = { cache, attention, signal, statisticsEvery: looks ? 1 : 0, hostTimes: !looks }
    const { token, statistics, hostTimes } = await nextToken(this.loaded.model, ids, options)
    return { next: token, density: statistics?.density, hostTimes }
  }
}
