import { SparseAttentionError } from '@sparse-attention/core'
import type { SamplingOptions } from './options.js'

export interface Choice {
  readonly token: number
  /** Natural log of its probability in the softmax of the logits as they are, before any option. */
  readonly logProbability: number
}

/**
 * Chooses a token: repetition penalty, then the most likely one, or temperature, top-k, top-p and min-p, each on what the one
 * before has left, as transformers does. Softmax and sums in float64, so that a seed means the same on every device that
 * gives the same logits.
 *
 * @param logits f32 [vocabulary], unchanged
 * @param seen ids that are repetitions
 * @param fraction in [0, 1), asked for once, and only at a temperature above 0
 * @throws UNSUPPORTED for logits that are no numbers
 */
export function chooseToken(
  logits: Float32Array,
  options: Required<SamplingOptions>,
  seen: ReadonlySet<number>,
  fraction: () => number,
): Choice {
  const { repetitionPenalty, temperature } = options
  const scores = Float64Array.from(logits)
  const [max, logSum] = checkedLogSum(scores)
  if (repetitionPenalty !== 1) {
    for (const id of seen) scores[id]! *= scores[id]! > 0 ? 1 / repetitionPenalty : repetitionPenalty
  }
  const token = temperature === 0 ? argmax(scores) : draw(scores, options, fraction())
  return { token, logProbability: logits[token]! - max - logSum }
}

/** Index of the largest, of the first where several are. */
export function argmax(values: ArrayLike<number>): number {
  let best = 0
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i
  return best
}

function draw(scores: Float64Array, { temperature, topK, topP, minP }: Required<SamplingOptions>, at: number): number {
  const max = scores[argmax(scores)]!
  // Weights: probabilities but for one factor.
  const weights = scores.map((score) => Math.exp((score - max) / temperature))
  let kept = Array.from(weights.keys()).filter((id) => weights[id]! > 0)
  // Most likely first, lower ids first among equals: what is kept, and the draw, do not depend on how an engine sorts.
  kept.sort((a, b) => weights[b]! - weights[a]! || a - b)
  if (topK > 0 && topK < kept.length) {
    const last = weights[kept[topK - 1]!]!
    kept = kept.filter((id) => weights[id]! >= last)
  }
  if (topP < 1) {
    const enough = topP * sum(kept, weights)
    let reached = 0
    // Never none: the first one stays.
    const end = kept.findIndex((id) => {
      reached += weights[id]!
      return reached >= enough
    })
    kept.length = end < 0 ? kept.length : end + 1
  }
  // The most likely token has the weight 1.
  if (minP > 0) kept = kept.filter((id) => weights[id]! >= minP)
  let left = at * sum(kept, weights)
  for (const id of kept) {
    left -= weights[id]!
    if (left < 0) return id
  }
  return kept.at(-1)! // rounding
}

function sum(ids: readonly number[], weights: Float64Array): number {
  return ids.reduce((total, id) => total + weights[id]!, 0)
}

/** The largest number, and log Σ exp of what is left when it is subtracted. */
function checkedLogSum(scores: Float64Array): [max: number, logSum: number] {
  let max = Number.NEGATIVE_INFINITY
  for (const score of scores) {
    if (Number.isNaN(score)) throw notNumbers('One of')
    if (score > max) max = score
  }
  if (!Number.isFinite(max)) throw notNumbers('The largest of', max)
  let total = 0
  for (const score of scores) total += Math.exp(score - max)
  return [max, Math.log(total)]
}

function notNumbers(which: string, value = Number.NaN): SparseAttentionError {
  return new SparseAttentionError('UNSUPPORTED', {
    message: `${which} the model's logits is ${value}.`,
    fix: 'Check the weights and the prompt, or the method in place of its attention.',
    where: 'logits',
  })
}
