import type { Random } from '@sparse-attention/core'
import { SparseAttentionError } from '@sparse-attention/core'
import type { LanguageTokenizer } from '../tokenizer.js'

export interface TaskOptions {
  readonly tokenizer: LanguageTokenizer
  /** Ids of the text to hide things in, for instance `tokenizer.encode(await loadHeldOutBook())`. */
  readonly text: ArrayLike<number>
  /** Tokens of the prompt, exactly. */
  readonly length: number
  /** The same seed and options give the same sample. */
  readonly seed: number
  /** Id that the prompt starts with. Default 0, as bookworm-9m was trained. */
  readonly bos?: number
}

/** A statement in a prompt: its tokens are `prompt[start]` to `prompt[end - 1]`. */
export interface HiddenLine {
  readonly text: string
  readonly start: number
  readonly end: number
  /** Whether the answer needs it; the others are there to be confused with. */
  readonly needed: boolean
}

/** A question about something hidden in a long text. */
export interface TaskSample {
  /** i32 [length] */
  readonly prompt: Int32Array<ArrayBuffer>
  /** i32 [answer length]: what greedy decoding must write after the prompt. */
  readonly answer: Int32Array<ArrayBuffer>
  /** `answer` as text. */
  readonly answerText: string
  /** The last line of the prompt. */
  readonly question: string
  /** In the order in which they stand in the prompt. */
  readonly lines: readonly HiddenLine[]
}

/** A line as a list of texts that are tokenized apart: `tasks.py` does so, and training saw those ids. */
export type Pieces = readonly string[]

export interface Statement {
  readonly pieces: Pieces
  readonly needed: boolean
  /** Where it stands: 0 the start of the text, 1 its end. */
  readonly place: number
}

/**
 * Puts statements into a stretch of text, in the order of their places, with a question at the end.
 *
 * @throws SparseAttentionError `INVALID_ARGUMENT` where `length` cannot hold them or `text` cannot fill it.
 */
export function hide(
  options: TaskOptions,
  random: Random,
  statements: readonly Statement[],
  question: Pieces,
  answer: Pieces,
): TaskSample {
  const { tokenizer, text, length, bos = 0 } = options
  const encode = (pieces: Pieces): number[] => pieces.flatMap((piece) => tokenizer.encode(piece))
  const sorted = [...statements].sort((a, b) => a.place - b.place)
  const encoded = sorted.map((statement) => encode(statement.pieces))
  const questionIds = encode(question)
  const needed = encoded.reduce((sum, ids) => sum + ids.length, 1 + questionIds.length)
  const room = checkRoom(length, needed, text.length)

  const prompt = new Int32Array(length)
  const lines: HiddenLine[] = []
  const start = random.integer(text.length - room + 1)
  let at = 0
  let done = 0
  const add = (ids: ArrayLike<number>, from = 0, to = ids.length): void => {
    for (let i = from; i < to; i++) prompt[at++] = ids[i]!
  }
  add([bos])
  sorted.forEach((statement, index) => {
    const cut = Math.floor(statement.place * room)
    add(text, start + done, start + cut)
    done = cut
    const ids = encoded[index]!
    lines.push({ text: statement.pieces.join(''), start: at, end: at + ids.length, needed: statement.needed })
    add(ids)
  })
  add(text, start + done, start + room)
  add(questionIds)
  return {
    prompt,
    answer: Int32Array.from(encode(answer)),
    answerText: answer.join(''),
    question: question.join(''),
    lines,
  }
}

/**
 * @param length tokens asked for
 * @param needed tokens of everything that is not text
 * @param available tokens of text to take from
 * @returns tokens of text to take
 */
export function checkRoom(length: number, needed: number, available: number): number {
  const most = needed + available
  if (Number.isInteger(length) && length >= needed && length <= most) return length - needed
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    where: 'length',
    message: `length is ${length}.`,
    fix: `Use an integer from ${needed} to ${most}, or a longer text.`,
  })
}

/** `value` if it is an integer in the range; a typed error that names the option otherwise. */
export function checkCount(name: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value
  throw new SparseAttentionError('INVALID_OPTION', {
    where: name,
    message: `${name} is ${value}.`,
    fix: `Use an integer from ${least} to ${most}.`,
  })
}

/** Whether `written`, the ids that a model wrote after the prompt, starts with the sample's whole answer. */
export function isCorrect(sample: TaskSample, written: ArrayLike<number>): boolean {
  return sample.answer.every((id, index) => written[index] === id)
}
