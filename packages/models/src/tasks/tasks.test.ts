import { describe, expect, it } from 'vitest'
import { bookIds, tokenizer } from '../fixtures/load.js'
import { heldOutPassage } from './held-out-passage.js'
import { multiKey } from './multi-key.js'
import { needle } from './needle.js'
import { isCorrect, type TaskOptions, type TaskSample } from './task.js'
import { variableTracking } from './variable-tracking.js'

const tasks: Record<string, (options: TaskOptions) => TaskSample> = {
  needle,
  multiKey,
  'multiKey of 12': (options) => multiKey({ ...options, keys: 12 }),
  variableTracking,
  'variableTracking of 8 chains': (options) => variableTracking({ ...options, chains: 8 }),
  'variableTracking, traced': (options) => variableTracking({ ...options, form: 'trace' }),
  'variableTracking, no hop': (options) => variableTracking({ ...options, hops: 0 }),
}
const options = (length: number, seed = 1): TaskOptions => ({ tokenizer, text: bookIds, length, seed })
const written = (sample: TaskSample): string => tokenizer.decode(sample.prompt)

describe.each(Object.entries(tasks))('%s', (_name, task) => {
  it.each([400, 401, 1000, 2048, 4096, 16_384])('has exactly %i tokens', (length) => {
    for (const seed of [1, 2, 3]) {
      const { prompt } = task(options(length, seed))
      expect(prompt.length).toBe(length)
      expect(prompt[0]).toBe(0)
    }
  })

  it('holds its lines where it says, and ends with its question', () => {
    const sample = task(options(700, 5))
    expect(sample.lines.length).toBeGreaterThan(0)
    for (const line of sample.lines) {
      expect(tokenizer.decode(sample.prompt.slice(line.start, line.end))).toBe(line.text)
    }
    expect(written(sample).endsWith(sample.question)).toBe(true)
    expect(sample.question.endsWith('Answer:')).toBe(true)
  })

  it('is book text apart from its lines', () => {
    const { prompt, lines, question } = task(options(700, 6))
    const rest: number[] = []
    let at = 1
    for (const line of lines) {
      rest.push(...prompt.slice(at, line.start))
      at = line.end
    }
    rest.push(...prompt.slice(at, 700 - tokenizer.encode(question).length))
    expect(`,${bookIds.join()},`).toContain(`,${rest.join()},`)
  })

  it('is the same for a seed and another for the next', () => {
    expect(task(options(600, 7))).toEqual(task(options(600, 7)))
    const prompts = new Set([1, 2, 3, 4, 5, 6, 7, 8].map((seed) => task(options(600, seed)).prompt.join()))
    expect(prompts.size).toBe(8)
  })

  it('has an answer that reads as its text', () => {
    const sample = task(options(500, 8))
    expect(tokenizer.decode(sample.answer)).toBe(sample.answerText)
    expect(isCorrect(sample, [...sample.answer, 99])).toBe(true)
    expect(isCorrect(sample, sample.answer.slice(0, -1))).toBe(false)
    expect(isCorrect(sample, sample.answer.with(1, 99))).toBe(false)
  })

  it.each([0, 20, 1.5, Number.NaN, 100_000])('refuses length %s', (length) => {
    expect(() => task(options(length))).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', where: 'length' }))
  })
})

describe('needle', () => {
  it('hides the number that answers, at the depth asked for', () => {
    for (const depth of [0, 0.25, 0.5, 1]) {
      const sample = needle({ ...options(2000, 3), depth })
      const [line] = sample.lines
      expect(line!.text).toContain(`is${sample.answerText}`)
      expect(sample.answerText).toMatch(/^ \d{6}\.$/)
      const key = /number of (.*) is /.exec(line!.text)![1]!
      expect(sample.question).toContain(key)
      // The text is 1960 tokens or so long: the line stands at its share of them.
      expect(line!.start / 2000).toBeCloseTo(depth * 0.98, 1)
    }
  })

  it.each([-0.1, 1.1, Number.NaN])('refuses depth %s', (depth) => {
    expect(() => needle({ ...options(500), depth })).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
  })
})

describe('multiKey', () => {
  it('has look-alike keys with different values, one of them asked', () => {
    for (let seed = 0; seed < 20; seed++) {
      const { lines, question, answerText } = multiKey(options(800, seed))
      const facts = lines.map((line) => /number of (\w+) of the (\w+) is (\d{6})\.\n$/.exec(line.text)!)
      expect(facts.length).toBe(4)
      const different = [1, 2, 3].map((group) => new Set(facts.map((fact) => fact[group])).size)
      // Same name and four things, or four names and the same thing.
      expect([different[0], different[1]].sort()).toEqual([1, 4])
      expect(different[2]).toBe(4)
      const asked = facts.filter((fact) => question.includes(` ${fact[1]} of the ${fact[2]}?`))
      expect(asked.map((fact) => ` ${fact[3]}.`)).toEqual([answerText])
      expect(lines.filter((line) => line.needed).map((line) => line.text)).toEqual([asked[0]!.input])
    }
  })

  it.each([1, 13, 2.5])('refuses %s keys', (keys) => {
    expect(() => multiKey({ ...options(800), keys })).toThrow(expect.objectContaining({ where: 'keys' }))
  })
})

describe('variableTracking', () => {
  it.each(['value', 'trace'] as const)('asks for what following the assignments gives (%s)', (form) => {
    for (let seed = 0; seed < 20; seed++) {
      const { lines, question, answerText } = variableTracking({ ...options(800, seed), form, chains: 3 })
      const meaning = new Map<string, string>()
      for (const { text } of lines) {
        const [, name, value] = /^\nLet (\w) = (\w+)\.\n$/.exec(text)!
        // A name is defined before it is used, and once.
        expect(meaning.has(name!)).toBe(false)
        expect(/^\d{5}$/.test(value!) || meaning.has(value!)).toBe(true)
        meaning.set(name!, value!)
      }
      expect(meaning.size).toBe(9)
      const way: string[] = []
      for (let name = / value of (\w)[?.] /.exec(question)![1]; name !== undefined; name = meaning.get(name))
        way.push(name)
      expect(way.length).toBe(4)
      expect(answerText).toBe(form === 'trace' ? ` ${way.slice(1).join(', ')}.` : ` ${way.at(-1)}.`)
      expect(lines.filter((line) => line.needed).length).toBe(3)
    }
  })

  it.each([{ chains: 0 }, { chains: 9 }, { hops: 3 }, { hops: -1 }])('refuses %o', (wrong) => {
    expect(() => variableTracking({ ...options(800), ...wrong })).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', where: Object.keys(wrong)[0] }),
    )
  })
})

describe('heldOutPassage', () => {
  it('is BOS and a stretch of the text', () => {
    const passage = heldOutPassage({ text: bookIds, length: 3000, seed: 4 })
    expect(passage.length).toBe(3000)
    expect(passage[0]).toBe(0)
    expect(`,${bookIds.join()},`).toContain(`,${passage.slice(1).join()},`)
    expect(heldOutPassage({ text: bookIds, length: 3000, seed: 5 })).not.toEqual(passage)
  })
})
