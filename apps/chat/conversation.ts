import type { ConfiguredMethod } from '@sparse-attention/core'
import { type LanguageTokenizer, TokenTextDecoder } from '@sparse-attention/models'
import {
  type AttentionModel,
  type FinishReason,
  type GenerationStatistics,
  type ModelCache,
  nextToken,
  type SamplingOptions,
} from '@sparse-attention/onnxruntime'
import { samePrefix } from './figures.js'

/** Each pane is a conversation of its own with the same model: same questions, other attention. */
export type PaneId = 'dense' | 'sparse'

export interface MethodPair {
  readonly prefill: ConfiguredMethod
  readonly decode: ConfiguredMethod
}

/** One token of a pane, as it comes. */
export interface PaneToken {
  readonly token: number
  /** Text that it completes; empty in the middle of a character. */
  readonly text: string
  /** Since the token before it, or since reading began. */
  readonly ms: number
  /** Of the run that gave it, where that was looked into. */
  readonly statistics: GenerationStatistics | undefined
}

/** What one pane made of one turn. */
export interface PaneTurn {
  readonly written: readonly PaneToken[]
  /** Tokens that were read before the first was written, and those that were there already. */
  readonly read: number
  readonly reused: number
  /** 'stop': the text that ends it was written. */
  readonly finishReason: FinishReason
}

/** The sparse pane's choices beside those of greedy decoding with dense attention. */
export interface Agreement {
  /** Tokens that both texts begin with. */
  readonly samePrefix: number
  /** Tokens of the dense text that sparse attention, having read what is before them, would write too. */
  readonly same: number
  readonly of: number
}

export interface TurnOptions {
  /** Given to the pane's attention. */
  readonly attention: MethodPair
  readonly sampling: SamplingOptions & { readonly seed: number }
  readonly maxNewTokens: number
  /** The text ends when it holds this. Default: only at `maxNewTokens`. */
  readonly stopAt?: string
  /** As for `generate`. */
  readonly statisticsEvery: number
  readonly statisticsFrom: number
  readonly signal: AbortSignal
  readonly onToken: (token: PaneToken) => void
}

type Model = Pick<AttentionModel, 'generate'>

/** The tokens of one pane, and the cache that holds the keys and values of those that were read. */
export class Pane implements Disposable {
  readonly #tokens: number[] = []
  /** Tokens of its own that were read, and have to be again: `choicesAlong` was in their place. */
  #replay: { readonly until: number; readonly attention: MethodPair } | undefined

  constructor(
    private readonly model: Model,
    private readonly tokenizer: LanguageTokenizer,
    private readonly cache: ModelCache,
  ) {}

  get tokens(): readonly number[] {
    return this.#tokens
  }

  /** Tokens that still fit. */
  get room(): number {
    return this.cache.capacity - this.#tokens.length
  }

  /** Puts tokens behind the others, for the next turn to read. */
  append(prompt: readonly number[]): void {
    this.#tokens.push(...prompt)
  }

  /** Appends a prompt and writes on. A turn that is cancelled or fails keeps what was written; the next one reads what is unread. */
  async turn(prompt: readonly number[], options: TurnOptions): Promise<PaneTurn> {
    const { attention, sampling, maxNewTokens, stopAt = '', statisticsEvery, statisticsFrom, signal, onToken } = options
    await this.#readAgain(signal)
    this.append(prompt)
    const unread = this.#unread()
    const { cache } = this
    const reused = cache.length
    const decoder = new TokenTextDecoder(this.tokenizer)
    const written: PaneToken[] = []
    const generation = this.model.generate(unread, {
      ...sampling,
      ...{ maxNewTokens, statisticsEvery, statisticsFrom, cache, attention, signal },
    })
    let text = ''
    let finishReason: FinishReason = 'length'
    let before = performance.now()
    for await (const { token, statistics } of generation) {
      const ms = performance.now() - before
      this.#tokens.push(token)
      const added = decoder.write(token) + (written.length === maxNewTokens - 1 ? decoder.end() : '')
      text += added
      const told = { token, text: added, ms, statistics }
      written.push(told)
      onToken(told)
      if (stopAt !== '' && text.includes(stopAt)) {
        finishReason = 'stop'
        break
      }
      before = performance.now()
    }
    return { written, read: unread.length, reused, finishReason }
  }

  /**
   * What this pane's attention would write in place of each token of another text, had it read that text up to there. Before
   * its next turn the pane reads its own text again.
   *
   * @param start where the other text begins to differ from what this pane has
   * @param others the other text from there on
   */
  async choicesAlong(
    start: number,
    others: readonly number[],
    attention: MethodPair,
    signal: AbortSignal,
    onStep: () => void,
  ): Promise<number[]> {
    const { cache, model } = this
    const until = cache.length
    const choices: number[] = []
    cache.truncate(Math.min(start, until))
    this.#replay = { until, attention }
    try {
      for (const token of others) {
        choices.push((await nextToken(model, [token], { cache, attention, signal })).token)
        onStep()
      }
    } finally {
      cache.truncate(Math.min(start, cache.length))
    }
    return choices
  }

  /** Token by token, as they were written: the same keys and values again. */
  async #readAgain(signal: AbortSignal): Promise<void> {
    const { cache, model } = this
    if (!this.#replay) return
    const { until, attention } = this.#replay
    while (cache.length < until) await nextToken(model, [this.#tokens[cache.length]!], { cache, attention, signal })
    this.#replay = undefined
  }

  #unread(): readonly number[] {
    // What was chosen last is among the tokens here.
    this.cache.truncate(this.cache.length)
    return this.#tokens.slice(this.cache.length)
  }

  /** Forgets everything, and keeps the memory. */
  reset(): void {
    this.#tokens.length = 0
    this.#replay = undefined
    this.cache.reset()
  }

  [Symbol.dispose](): void {
    this.cache.dispose()
  }
}

/** Steps of `agreement`, for progress. */
export function agreementSteps(dense: readonly number[], sparse: readonly number[]): number {
  const first = samePrefix(dense, sparse)
  if (first >= Math.min(dense.length, sparse.length)) return 0
  return dense.length - first - 1
}

/**
 * Compares a sparse pane's greedy text with the dense one, both behind the same tokens. Only what comes after the first
 * difference has to be computed: up to there both have read the same.
 */
export async function agreement(
  pane: Pane,
  dense: readonly number[],
  sparse: readonly number[],
  attention: MethodPair,
  signal: AbortSignal,
  onStep: () => void,
): Promise<Agreement> {
  const first = samePrefix(dense, sparse)
  if (first >= Math.min(dense.length, sparse.length)) return { samePrefix: first, same: first, of: first }
  const start = pane.tokens.length - sparse.length + first
  const rest = dense.slice(first, -1)
  const choices = await pane.choicesAlong(start, rest, attention, signal, onStep)
  const same = choices.filter((token, i) => token === dense[first + 1 + i]).length
  return { samePrefix: first, same: first + same, of: dense.length }
}
