import { SparseAttentionError } from '@sparse-attention/core'
import { heldOutBook, type LanguageModel, loadHeldOutBook, needle } from '@sparse-attention/models/node'
import { type Answered, answered } from './answered.js'

/** A stretch of the book with a needle in it, the question about it and the right answer, as one sequence of tokens. */
export interface Passage extends Answered {
  /** Positions of the last tokens of text before the question, without the needle's: their loss is measured. */
  readonly heldOut: readonly number[]
  /** Bytes of text that those tokens stand for. */
  readonly heldOutBytes: number
  /** Positions whose logits are needed, counted from the end. */
  readonly logitsToKeep: number
  /** File name of the book. */
  readonly book: string
}

/** Tokens of text whose loss is measured. */
const heldOutTokens = 256
const shortest = 128

/**
 * A passage of the held-out book with a needle in it, chosen by the seed.
 *
 * @param length tokens of everything together
 * @throws INVALID_OPTION for a length that the model was not trained on
 */
export async function makePassage(
  { tokenizer, config }: LanguageModel,
  length: number,
  seed: number,
  signal: AbortSignal,
): Promise<Passage> {
  if (length < shortest || length > config.maxLength) {
    throw new SparseAttentionError('INVALID_OPTION', {
      message: `The length is ${length} tokens.`,
      fix: `Use ${shortest} to ${config.maxLength}, the longest that the model was trained on.`,
      where: 'length',
    })
  }
  const text = tokenizer.encode(await loadHeldOutBook({ signal }))
  const { ids, sample, answerStart } = answered(length, (promptLength) =>
    needle({ tokenizer, text, length: promptLength, seed, bos: config.bos }),
  )

  const textEnd = answerStart - tokenizer.encode(sample.question).length
  const first = Math.max(1, textEnd - heldOutTokens)
  const isHidden = (at: number) => sample.lines.some(({ start, end }) => at >= start && at < end)
  const heldOut = Array.from({ length: textEnd - first }, (_, i) => first + i).filter((at) => !isHidden(at))
  const heldOutBytes = new TextEncoder().encode(tokenizer.decode(heldOut.map((at) => ids[at]!))).length
  // A token is predicted by the logits one position before it.
  const logitsToKeep = length - (first - 1)
  return { ids, sample, heldOut, heldOutBytes, answerStart, logitsToKeep, book: heldOutBook }
}
