import type { LanguageTokenizer } from '@sparse-attention/models'
import type { Passage } from './passage.js'

/** What a model made of a passage. */
export interface Score {
  /** Mean over the held-out tokens, in nats. */
  readonly loss: number
  readonly bitsPerByte: number
  readonly needle: {
    /** What greedy decoding writes as long as it is right; behind a wrong token, what it would write had it been right. */
    readonly predicted: string
    readonly found: boolean
  }
}

/**
 * @param logits f32 [passage.logitsToKeep, vocabulary], of the last positions
 */
export function scorePassage(passage: Passage, logits: Float32Array, tokenizer: LanguageTokenizer): Score {
  const { ids, heldOut, heldOutBytes, answerStart, logitsToKeep } = passage
  const vocabulary = logits.length / logitsToKeep
  const firstKept = ids.length - logitsToKeep
  const before = (at: number) => {
    const row = at - 1 - firstKept
    return logits.subarray(row * vocabulary, (row + 1) * vocabulary)
  }
  const nats = heldOut.reduce((sum, at) => sum + crossEntropy(before(at), ids[at]!), 0)
  const answer = [...ids.subarray(answerStart)]
  const predicted = answer.map((_, i) => argmax(before(answerStart + i)))
  return {
    loss: nats / heldOut.length,
    bitsPerByte: nats / Math.LN2 / heldOutBytes,
    needle: { predicted: tokenizer.decode(predicted), found: predicted.every((id, i) => id === answer[i]) },
  }
}

/** −ln softmax(logits)[target], in float64. */
export function crossEntropy(logits: Float32Array, target: number): number {
  let max = Number.NEGATIVE_INFINITY
  for (const logit of logits) max = Math.max(max, logit)
  let sum = 0
  for (const logit of logits) sum += Math.exp(logit - max)
  return Math.log(sum) + max - logits[target]!
}

/** Index of the largest, of the first where several are. */
export function argmax(values: Float32Array): number {
  let best = 0
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i
  return best
}
