import { performance } from 'node:perf_hooks'
import type { ConfiguredMethod } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { heldOutPassage, isCorrect, type LanguageModel, needle } from '@sparse-attention/models'
import { type AttentionMethod, type ModelCache, nextToken } from '@sparse-attention/onnxruntime'
import { mean, median } from '../statistics.js'
import type { LoadedForGeneration } from './load-for-generation.js'

/** What is left of dense decoding with a method in its place. */
export interface DecodeQuality {
  readonly method: ConfiguredMethod
  /** Kept keys ÷ those so far, over layers and heads, in every 16th step of the text. */
  readonly density: number
  /** Prompts whose whole answer was written, question and answer read token by token. */
  readonly needles: number
  /** Share of the tokens of the dense text that the method, having read what is before them, would write too. */
  readonly agreement: number
  /** Tokens that its own text has in common with the dense one before the first that differs. */
  readonly samePrefix: number
  /** Median of a step of the text that was not looked into. */
  readonly tokenMs: number
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

const looksEvery = 16

/**
 * Greedy decoding after a prompt that dense attention has read, by each method from the same keys and values: on a passage
 * of the book against the text that dense decoding writes there, and on needles.
 */
export async function measureDecodeQuality(options: DecodeQualityOptions): Promise<DecodeQuality[]> {
  const { loaded, language, text, methods, length, tokens, samples, seed, signal, onStep } = options
  const { config, tokenizer } = language
  const attentions = methods.map((decode) => ({ prefill: exact, decode }))
  using cache = await loaded.createCache(length + Math.max(tokens, 64))
  const reader = new Reader(loaded, cache, signal)

  const passage = Array.from(heldOutPassage({ text, length, seed, bos: config.bos }))
  await reader.readPrompt(passage.slice(0, -1), attentions[0]!)
  const written: number[] = []
  const texts: Omit<DecodeQuality, 'method' | 'needles'>[] = []
  for (const [i, attention] of attentions.entries()) {
    reader.rewind()
    const densities: number[] = []
    const times: number[] = []
    const chosen: number[] = []
    for (let at = 0, token = passage.at(-1)!; at < tokens; at++) {
      const looks = at % looksEvery === looksEvery - 1
      const start = performance.now()
      const { next, density } = await reader.step(token, attention, looks)
      if (density !== undefined) densities.push(density)
      else times.push(performance.now() - start)
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
    })
    onStep(`${methods[i]!.method.id}: text`)
  }

  const needles = methods.map(() => 0)
  for (let i = 0; i < samples; i++) {
    const sample = needle({ tokenizer, text, length, seed: seed + i, bos: config.bos })
    const questionAt = length - tokenizer.encode(sample.question).length
    await reader.readPrompt(Array.from(sample.prompt.subarray(0, questionAt)), attentions[0]!)
    for (const [m, attention] of attentions.entries()) {
      reader.rewind()
      let next = -1
      for (const token of sample.prompt.subarray(questionAt)) next = (await reader.step(token, attention, false)).next
      const answer = [next]
      while (answer.length < sample.answer.length) {
        next = (await reader.step(next, attention, false)).next
        answer.push(next)
      }
      if (isCorrect(sample, answer)) needles[m]!++
      onStep(`${methods[m]!.method.id}: needle ${i + 1}`)
    }
  }
  return methods.map((method, i) => ({ method, ...texts[i]!, needles: needles[i]! }))
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

  async readPrompt(ids: readonly number[], attention: AttentionMethod): Promise<void> {
    this.cache.reset()
    await this.#read(ids, attention, false)
    this.#promptLength = this.cache.length
  }

  /** Forgets everything behind the prompt. */
  rewind(): void {
    this.cache.truncate(this.#promptLength)
  }

  async step(
    token: number,
    attention: AttentionMethod,
    looks: boolean,
  ): Promise<{ next: number; density: number | undefined }> {
    return this.#read([token], attention, looks)
  }

  async #read(ids: readonly number[], attention: AttentionMethod, looks: boolean) {
    const { cache, signal } = this
    const options = { cache, attention, signal, statisticsEvery: looks ? 1 : 0 }
    const { token, statistics } = await nextToken(this.loaded.model, ids, options)
    return { next: token, density: statistics?.density }
  }
}
