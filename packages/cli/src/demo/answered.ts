import type { TaskSample } from '@sparse-attention/models'

/** A task's prompt with the right answer behind it, as one sequence of tokens. */
export interface Answered {
  /** i32 [length] */
  readonly ids: Int32Array
  readonly sample: TaskSample
  /** First position of the answer, which runs to the end. */
  readonly answerStart: number
}

/**
 * The answer stands in the sequence, so that one prefill tells what greedy decoding would write: it writes the answer
 * exactly if every token of it is the most likely one after the right tokens before it.
 *
 * @param length tokens of everything together
 * @param make a sample whose prompt has as many tokens; its answer has the same number of them for every length
 */
export function answered(length: number, make: (promptLength: number) => TaskSample): Answered {
  const answerStart = length - make(length).answer.length
  const sample = make(answerStart)
  const ids = new Int32Array(length)
  ids.set(sample.prompt)
  ids.set(sample.answer, answerStart)
  return { ids, sample, answerStart }
}
