import { SparseAttentionError } from '@sparse-attention/core'
import type { ModelCache } from '../model-cache.js'
import type { AttentionEvent, AttentionMethod } from '../replaced-attention.js'
import { HostClock, type HostTimes } from './host-times.js'
import type { CheckedOptions } from './options.js'
import { seededFractions } from './random.js'
import { chooseToken } from './sampling.js'
import { type GenerationStatistics, StatisticsCollector } from './statistics.js'

/** One token that was written. */
export interface GeneratedToken {
  readonly token: number
  /** Natural log of its probability by the model's own logits, before temperature and the other options. */
  readonly logProbability: number
  /** Of the run that gave these logits, where `statisticsEvery` asks for it. */
  readonly statistics?: GenerationStatistics
  /** Likewise, where `hostTimes` asks for it. */
  readonly hostTimes?: HostTimes
}

/** Why a text ended: a stop condition was met, or it has `maxNewTokens`. */
export type FinishReason = 'stop' | 'length'

/** A text in the making. Nothing runs until its first token is asked for, and it is iterated once. */
export interface Generation extends AsyncIterable<GeneratedToken> {
  /** Undefined until the text has ended. */
  readonly finishReason: FinishReason | undefined
}

/** What a generation needs of a model. */
export interface LanguageRunner {
  /**
   * Reads tokens behind those of the cache, all or none of them.
   *
   * @returns f32 [vocabulary], the logits of the last
   */
  read(ids: readonly number[], cache: ModelCache, options: ReadOptions): Promise<Float32Array>
  createCache(capacity: number): Promise<ModelCache>
  /** Undefined where the file does not tell. */
  readonly vocabularySize: number | undefined
}

export interface ReadOptions {
  readonly signal?: AbortSignal
  readonly attention?: AttentionMethod
  readonly onAttention?: (event: AttentionEvent) => Promise<void>
  /** Is told when parts of the run end. */
  readonly clock?: HostClock
}

/**
 * @throws INVALID_ARGUMENT for a prompt that holds nothing to read, or ids that are none; LIMIT_EXCEEDED when prompt and text do
 *   not fit the cache
 */
export function startGeneration(
  runner: LanguageRunner,
  prompt: ArrayLike<number>,
  options: CheckedOptions,
): Generation {
  const ids = Array.from(prompt)
  checkPrompt(ids, runner, options)
  return new RunningGeneration(runner, ids, options)
}

class RunningGeneration implements Generation {
  #finishReason: FinishReason | undefined
  #started = false

  constructor(
    private readonly runner: LanguageRunner,
    private readonly prompt: readonly number[],
    private readonly options: CheckedOptions,
  ) {}

  get finishReason(): FinishReason | undefined {
    return this.#finishReason
  }

  [Symbol.asyncIterator](): AsyncIterator<GeneratedToken> {
    if (this.#started) {
      throw new SparseAttentionError('INVALID_ARGUMENT', {
        message: 'This generation is being iterated, or has been.',
        fix: 'Call generate again.',
        where: 'generate',
      })
    }
    this.#started = true
    return this.#tokens()
  }

  async *#tokens(): AsyncGenerator<GeneratedToken, void, undefined> {
    const { options, prompt, runner } = this
    options.signal?.throwIfAborted()
    const cache = options.cache ?? (await runner.createCache(prompt.length + options.maxNewTokens))
    try {
      const release = cache.claim()
      try {
        yield* this.#write(cache)
      } finally {
        release()
      }
    } finally {
      if (cache !== options.cache) cache.dispose()
    }
  }

  async *#write(cache: ModelCache): AsyncGenerator<GeneratedToken, void, undefined> {
    const { prompt, options, runner } = this
    const { maxNewTokens, repetitionPenalty, statisticsEvery, statisticsFrom, hostTimes, seed, signal, attention } =
      options
    const fraction = seededFractions(seed)
    const seen = new Set(repetitionPenalty === 1 ? [] : [...cache.knownTokens, ...cache.unread, ...prompt])
    const written: number[] = []
    const clock = hostTimes ? new HostClock() : undefined
    let unread = [...cache.unread, ...prompt]
    while (written.length < maxNewTokens) {
      signal?.throwIfAborted()
      const at = written.length - statisticsFrom
      const looks = statisticsEvery > 0 && at >= 0 && at % statisticsEvery === 0
      const collector = looks ? new StatisticsCollector() : undefined
      const logits = await runner.read(unread, cache, {
        ...(signal && { signal }),
        ...(attention && { attention }),
        ...(collector && { onAttention: collector.onAttention }),
        ...(clock && { clock }),
      })
      cache.remember(unread)
      const chosen = chooseToken(logits, options, seen, fraction)
      written.push(chosen.token)
      seen.add(chosen.token)
      // The model reads it with the next one, or with the next prompt.
      unread = [chosen.token]
      cache.unread = unread
      if (endsText(written, options.stop)) this.#finishReason = 'stop'
      else if (written.length === maxNewTokens) this.#finishReason = 'length'
      yield {
        ...chosen,
        ...(collector && { statistics: collector.result() }),
        ...(clock && { hostTimes: clock.result() }),
      }
      if (this.#finishReason === 'stop') return
    }
  }
}

function endsText(written: readonly number[], { tokens, sequences }: CheckedOptions['stop']): boolean {
  return (
    tokens.includes(written.at(-1)!) ||
    sequences.some((sequence) => sequence.every((id, i) => written[written.length - sequence.length + i] === id))
  )
}

function checkPrompt(
  ids: readonly number[],
  { vocabularySize = Number.POSITIVE_INFINITY }: LanguageRunner,
  { cache, maxNewTokens }: CheckedOptions,
): void {
  const refuse = (message: string, fix: string) =>
    new SparseAttentionError('INVALID_ARGUMENT', { message, fix, where: 'prompt' })
  const wrong = ids.find((id) => !(Number.isSafeInteger(id) && id >= 0 && id < vocabularySize))
  if (wrong !== undefined) {
    const last = Number.isFinite(vocabularySize) ? ` to ${vocabularySize - 1}` : ''
    throw refuse(`The prompt holds ${wrong}.`, `Use ids of tokens, integers from 0${last}.`)
  }
  if (ids.length === 0 && !cache?.unread.length) {
    throw refuse('The prompt is empty.', 'Start it with one token at least, such as that of the beginning of a text.')
  }
  if (!cache) return
  if (cache.batch !== 1) {
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: `The cache holds ${cache.batch} sequences.`,
      fix: 'generate writes one: make a cache of batch 1.',
      where: 'cache',
    })
  }
  // The last token that is written need not be read.
  const needed = cache.length + cache.unread.length + ids.length + maxNewTokens - 1
  if (needed > cache.capacity) {
    throw new SparseAttentionError('LIMIT_EXCEEDED', {
      message: `The ${cache.length + cache.unread.length} tokens so far, a prompt of ${ids.length} and ${maxNewTokens} more do not fit a cache of ${cache.capacity}.`,
      fix: 'Use a smaller maxNewTokens, or a cache with a larger capacity.',
      where: 'maxNewTokens',
    })
  }
}
