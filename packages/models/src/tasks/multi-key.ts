import { Random } from '@sparse-attention/core'
import { fact, factQuestion, lookAlikes, numberAnswer, things } from './lines.js'
import { checkCount, hide, type TaskOptions, type TaskSample } from './task.js'

export interface MultiKeyOptions extends TaskOptions {
  /** Facts in the text, 2 to 12. Default 4. Choosing one of them blindly is right once in `keys`. */
  readonly keys?: number
}

/**
 * Needles that look alike (after RULER's niah_multikey, arXiv:2404.06654): facts about "Ada of the garden", "Ada of the
 * harbour", …, all with the same name or all with the same thing, and a question about one.
 *
 * @throws SparseAttentionError `INVALID_ARGUMENT` for a `length` too short or longer than the text, `INVALID_OPTION` for
 * `keys` out of range.
 */
export function multiKey(options: MultiKeyOptions): TaskSample {
  const random = new Random(options.seed)
  const keys = lookAlikes(random, checkCount('keys', options.keys ?? 4, 2, things.length))
  const values = keys.map(() => random.digits(6))
  const asked = random.integer(keys.length)
  const statements = keys.map((key, index) => ({
    pieces: fact(key, values[index]!),
    needed: index === asked,
    place: random.fraction(),
  }))
  return hide(options, random, statements, factQuestion(keys[asked]!), numberAnswer(values[asked]!))
}
