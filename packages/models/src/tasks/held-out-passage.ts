import { Random } from '@sparse-attention/core'
import { checkRoom, type TaskOptions } from './task.js'

/**
 * A stretch of the text with nothing hidden in it, for perplexity: BOS and `length - 1` tokens of text.
 *
 * @returns i32 [length]
 * @throws SparseAttentionError `INVALID_ARGUMENT` for a `length` longer than the text.
 */
export function heldOutPassage(options: Omit<TaskOptions, 'tokenizer'>): Int32Array<ArrayBuffer> {
  const { text, length, seed, bos = 0 } = options
  const room = checkRoom(length, 1, text.length)
  const start = new Random(seed).integer(text.length - room + 1)
  const ids = new Int32Array(length)
  ids[0] = bos
  for (let i = 0; i < room; i++) ids[i + 1] = text[start + i]!
  return ids
}
