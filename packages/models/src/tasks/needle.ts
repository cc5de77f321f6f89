import { Random, SparseAttentionError } from '@sparse-attention/core'
import { fact, factQuestion, names, numberAnswer, things } from './lines.js'
import { hide, type TaskOptions, type TaskSample } from './task.js'

export interface NeedleOptions extends TaskOptions {
  /** Where the fact stands, 0 at the start of the text and 1 at its end. Default: anywhere, by `seed`. */
  readonly depth?: number
}

/**
 * Needle in a haystack: one fact with a number of six digits in the text, and a question about it.
 *
 * "The secret number of Ada of the garden is 482130." → "Question: what is the secret number of Ada of the garden?
 * Answer:" → " 482130."
 *
 * @throws SparseAttentionError `INVALID_ARGUMENT` for a `length` too short or longer than the text, `INVALID_OPTION` for
 * a `depth` outside [0, 1].
 */
export function needle(options: NeedleOptions): TaskSample {
  const random = new Random(options.seed)
  const depth = options.depth ?? random.fraction()
  if (!(depth >= 0 && depth <= 1)) {
    throw new SparseAttentionError('INVALID_OPTION', {
      where: 'depth',
      message: `depth is ${depth}.`,
      fix: 'Use a number from 0 to 1.',
    })
  }
  const key = `${random.pick(names)} of the ${random.pick(things)}`
  const value = random.digits(6)
  const statement = { pieces: fact(key, value), needed: true, place: depth }
  return hide(options, random, [statement], factQuestion(key), numberAnswer(value))
}
