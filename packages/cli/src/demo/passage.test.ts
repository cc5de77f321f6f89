import { type LanguageModel, loadLanguageModel } from '@sparse-attention/models/node'
import { beforeAll, expect, it } from 'vitest'
import { makePassage } from './passage.js'

let language: LanguageModel
beforeAll(async () => {
  language = await loadLanguageModel()
})
const signal = new AbortController().signal

it.each([128, 512])('holds text, needle, question and answer in exactly %i tokens', async (length) => {
  const passage = await makePassage(language, length, 3, signal)
  const { ids, sample, heldOut, answerStart, logitsToKeep } = passage
  const decode = (from: number, to?: number) => language.tokenizer.decode(ids.slice(from, to))
  expect(ids).toHaveLength(length)
  expect(ids[0]).toBe(language.config.bos)
  expect(decode(answerStart)).toBe(sample.answerText)
  expect(decode(0)).toContain(sample.lines[0]!.text)
  expect(decode(0)).toMatch(/\nQuestion: what is the secret number of [^\n]*\? Answer: \d{6}\.$/)

  // The held-out stretch ends where the question starts, and has nothing of the needle in it.
  expect(decode(heldOut.at(-1)! + 1)).toBe(sample.question + sample.answerText)
  const [line] = sample.lines
  expect(heldOut.some((at) => at >= line!.start && at < line!.end)).toBe(false)
  expect(passage.heldOutBytes).toBeGreaterThan(heldOut.length)
  // The first logits kept are those that predict the first held-out token.
  expect(length - logitsToKeep).toBeLessThan(heldOut[0]!)
  expect(logitsToKeep).toBeLessThanOrEqual(length)
})

it('is the same for the same seed, and another for another', async () => {
  const [a, b, c] = await Promise.all([5, 5, 6].map((seed) => makePassage(language, 256, seed, signal)))
  expect(a!.ids).toEqual(b!.ids)
  expect(a!.ids).not.toEqual(c!.ids)
})

it.each([127, 16385])('refuses %i tokens', async (length) => {
  const making = makePassage(language, length, 1, signal)
  await expect(making).rejects.toMatchObject({ code: 'INVALID_OPTION', where: 'length' })
})
