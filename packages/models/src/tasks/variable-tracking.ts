import { Random } from '@sparse-attention/core'
import { assignName, assignValue, numberAnswer, traceAnswer, traceQuestion, valueQuestion, variables } from './lines.js'
import { checkCount, hide, type Statement, type TaskOptions, type TaskSample } from './task.js'

export interface VariableTrackingOptions extends TaskOptions {
  /** Chains in the text, of which one is asked; 1 to 8. Default 2. A blind choice of value is right once in `chains`. */
  readonly chains?: number
  /** Assignments between the asked name and the value, 0 to 2: what the model was trained on. Default 2. */
  readonly hops?: number
  /**
   * 'value' (default) asks for the number alone: all hops at once. 'trace' asks for the names on the way too, one hop
   * for each token of the answer.
   */
  readonly form?: 'value' | 'trace'
}

/**
 * Variable tracking (after RULER, arXiv:2404.06654): assignments all over the text, and a question about the last name
 * of a chain.
 *
 * "Let K = 48213." … "Let Q = K." … "Let T = Q." → "Question: what is the value of T? Answer:" → " 48213.", or
 * "Question: trace the value of T. Answer:" → " Q, K, 48213."
 *
 * @throws SparseAttentionError `INVALID_ARGUMENT` for a `length` too short or longer than the text, `INVALID_OPTION` for
 * `chains` or `hops` out of range.
 */
export function variableTracking(options: VariableTrackingOptions): TaskSample {
  const random = new Random(options.seed)
  const count = checkCount('chains', options.chains ?? 2, 1, 8)
  const size = checkCount('hops', options.hops ?? 2, 0, 2) + 1
  const free = random.sample(variables, count * size)
  const chains = Array.from({ length: count }, (_, index) => ({
    names: free.slice(index * size, (index + 1) * size),
    value: random.digits(5),
  }))
  const statements = chains.flatMap(({ names, value }, chain) => {
    const places = random.ascending(size)
    return names.map(
      (name, index): Statement => ({
        pieces: index === 0 ? assignValue(name, value) : assignName(name, names[index - 1]!),
        needed: chain === 0,
        place: places[index]!,
      }),
    )
  })
  const { names, value } = chains[0]!
  const asked = names[size - 1]!
  return options.form === 'trace'
    ? hide(options, random, statements, traceQuestion(asked), traceAnswer(names.slice(0, -1).reverse(), value))
    : hide(options, random, statements, valueQuestion(asked), numberAnswer(value))
}
