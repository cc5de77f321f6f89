import { SparseAttentionError } from '@sparse-attention/core'
import type { ModelCache } from '../model-cache.js'
import type { AttentionMethod } from '../replaced-attention.js'

/** How the next token is chosen from the logits. Named as in Hugging Face's generation configs, and applied in their order. */
export interface SamplingOptions {
  /**
   * Divides the logits of tokens that were there before, in this conversation's prompts and texts, where they are positive, and
   * multiplies them elsewhere. Default 1: nothing.
   */
  readonly repetitionPenalty?: number
  /** Divides the logits. 0, the default: the most likely token is taken, the first of equals. */
  readonly temperature?: number
  /** Only the k most likely tokens, and those as likely as the last of them. Default 0: all. */
  readonly topK?: number
  /** Only the fewest most likely tokens that are as likely together as this. Default 1: all. */
  readonly topP?: number
  /** Only tokens at least this often as likely as the most likely. Default 0: all. */
  readonly minP?: number
}

export interface StopConditions {
  /** Ids that end the text when they are written, such as that of the end of a text. */
  readonly tokens?: readonly number[]
  /** Runs of ids that end it. */
  readonly sequences?: readonly (readonly number[])[]
}

export interface GenerateOptions extends SamplingOptions {
  /** Most tokens to write. Default 128. */
  readonly maxNewTokens?: number
  /** Chooses among the tokens: the same seed, prompt and options write the same text. An integer; its lower 32 bits count. Default: by chance. */
  readonly seed?: number
  /** What ends the text before that. The token that does is written too. */
  readonly stop?: StopConditions
  /**
   * Where the conversation so far is, and goes on: only the new tokens are computed. Default: a cache for this call, freed when
   * it ends.
   */
  readonly cache?: ModelCache
  /** In place of what was chosen when the model was loaded. Give the same object again: each is compiled once. */
  readonly attention?: AttentionMethod
  /**
   * Looks into the run of every n-th token, the first included, which is that of the prompt. Costs time: plans are read back
   * and the GPU drained around each attention. Default 0: never, and nothing is read back but logits.
   */
  readonly statisticsEvery?: number
  /** The first token that it looks into, counted from 0: with 1, the time to the first token is measured undisturbed. Default 0. */
  readonly statisticsFrom?: number
  /** Tells of each token where the host's time for the run that gave it went. Default false. */
  readonly hostTimes?: boolean
  /** Stops before the next piece or submit; the iterator rejects with the signal's reason. The cache keeps whole tokens. */
  readonly signal?: AbortSignal
}

/** What a generation goes by, checked. */
export type CheckedOptions = Required<Omit<GenerateOptions, 'cache' | 'attention' | 'signal' | 'stop'>> &
  Pick<GenerateOptions, 'cache' | 'attention' | 'signal'> & { readonly stop: Required<StopConditions> }

/** @throws INVALID_OPTION naming the option */
export function checkOptions(options: GenerateOptions): CheckedOptions {
  const { stop = {}, seed = Math.floor(Math.random() * 2 ** 32), hostTimes = false, cache, attention, signal } = options
  const number = (
    name: Exclude<keyof GenerateOptions, 'stop' | 'cache' | 'attention' | 'signal' | 'seed' | 'hostTimes'>,
    fallback: number,
    accepts: (value: number) => boolean,
    allowed: string,
  ) => {
    const value = options[name] ?? fallback
    if (typeof value !== 'number' || !accepts(value)) throw refused(name, `${name} is ${value}.`, `Use ${allowed}.`)
    return value
  }
  const count = (least: number) => (value: number) => Number.isSafeInteger(value) && value >= least
  if (!Number.isSafeInteger(seed)) throw refused('seed', `seed is ${seed}.`, 'Use an integer.')
  if (typeof hostTimes !== 'boolean') throw refused('hostTimes', `hostTimes is ${hostTimes}.`, 'Use true or false.')
  const ids = (name: string, list: readonly number[] | undefined, least: number) => {
    if (Array.isArray(list) && list.length >= least && list.every(count(0))) return
    throw refused(name, `${name} is ${JSON.stringify(list)}.`, 'Use ids of tokens, as arrays of integers from 0.')
  }
  const { tokens = [], sequences = [] } = stop
  ids('stop.tokens', tokens, 0)
  for (const [i, sequence] of sequences.entries()) ids(`stop.sequences[${i}]`, sequence, 1)
  return {
    maxNewTokens: number('maxNewTokens', 128, count(1), 'an integer of at least 1'),
    repetitionPenalty: number('repetitionPenalty', 1, (x) => x > 0 && Number.isFinite(x), 'a number above 0'),
    temperature: number('temperature', 0, (x) => x >= 0 && Number.isFinite(x), '0 or a number above'),
    topK: number('topK', 0, count(0), 'an integer of at least 1, or 0 for all tokens'),
    topP: number('topP', 1, (x) => x > 0 && x <= 1, 'a number above 0 and at most 1'),
    minP: number('minP', 0, (x) => x >= 0 && x <= 1, 'a number from 0 to 1'),
    statisticsEvery: number('statisticsEvery', 0, count(0), 'an integer of at least 1, or 0 for never'),
    statisticsFrom: number('statisticsFrom', 0, count(0), 'an integer from 0'),
    hostTimes,
    seed,
    stop: { tokens, sequences },
    ...(cache && { cache }),
    ...(attention && { attention }),
    ...(signal && { signal }),
  }
}

function refused(where: string, message: string, fix: string): SparseAttentionError {
  return new SparseAttentionError('INVALID_OPTION', { message, fix, where })
}
