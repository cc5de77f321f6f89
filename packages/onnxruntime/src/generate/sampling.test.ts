import { describe, expect, test } from 'vitest'
import { checkOptions, type GenerateOptions, type SamplingOptions } from './options.js'
import { seededFractions } from './random.js'
import { chooseToken } from './sampling.js'

const neutral = { repetitionPenalty: 1, temperature: 1, topK: 0, topP: 1, minP: 0 }
/** Log of 0.1, 0.4, 0.2, 0.3, and of what never comes. */
const logits = Float32Array.of(...[0.1, 0.4, 0.2, 0.3].map(Math.log), -Infinity)
const none: ReadonlySet<number> = new Set()

/** Tokens drawn at evenly spaced fractions, with how often. */
function drawn(options: Partial<SamplingOptions>, seen = none): Record<number, number> {
  const counts: Record<number, number> = {}
  for (let i = 0; i < 100; i++) {
    const { token } = chooseToken(logits, { ...neutral, ...options }, seen, () => (i + 0.5) / 100)
    counts[token] = (counts[token] ?? 0) + 1
  }
  return counts
}

describe('chooseToken', () => {
  test('takes the first of the most likely at temperature 0, and asks for no fraction', () => {
    const never = () => expect.unreachable()
    const choose = (values: number[]) =>
      chooseToken(Float32Array.from(values), { ...neutral, temperature: 0 }, none, never)
    expect(choose([1, 3, 3, 2]).token).toBe(1)
    expect(choose([-5]).token).toBe(0)
  })

  test.each<[string, Partial<SamplingOptions>, Record<number, number>]>([
    ['draws by probability', {}, { 0: 10, 1: 40, 2: 20, 3: 30 }],
    ['top-k keeps the k most likely', { topK: 2 }, { 1: 57, 3: 43 }],
    ['top-p keeps the fewest that reach it', { topP: 0.65 }, { 1: 57, 3: 43 }],
    ['top-p keeps one at least', { topP: 0.01 }, { 1: 100 }],
    ['top-p counts what top-k has left', { topK: 2, topP: 0.5 }, { 1: 100 }],
    ['min-p compares with the most likely', { minP: 0.45 }, { 1: 44, 2: 23, 3: 33 }],
    // Squares: 0.01, 0.16, 0.04, 0.09 of 0.3.
    ['a temperature of 1/2 squares', { temperature: 0.5 }, { 0: 3, 1: 53, 2: 14, 3: 30 }],
  ])('%s', (_, options, expected) => {
    const counts = drawn(options)
    expect(Object.keys(counts)).toEqual(Object.keys(expected))
    // Which side of a boundary a fraction falls on may differ by one.
    for (const [id, count] of Object.entries(expected)) expect(Math.abs(counts[Number(id)]! - count)).toBeLessThan(2)
  })

  test('keeps equals of the last of the top k', () => {
    const tied = Float32Array.of(1, 1, 0, 1)
    const tokens = [0.1, 0.5, 0.9].map((at) => chooseToken(tied, { ...neutral, topK: 2 }, none, () => at).token)
    expect(tokens).toEqual([0, 1, 3])
  })

  test('makes repeated tokens less likely, whichever sign their logits have', () => {
    const greedy = { ...neutral, temperature: 0, repetitionPenalty: 2 }
    const never = () => expect.unreachable()
    expect(chooseToken(Float32Array.of(3, 2), greedy, new Set([0]), never).token).toBe(1)
    expect(chooseToken(Float32Array.of(-1, -1.5), greedy, new Set([0]), never).token).toBe(1)
    expect(chooseToken(Float32Array.of(3, 1), greedy, new Set([0]), never).token).toBe(0)
  })

  test("tells the model's own probability, whatever the options", () => {
    const options = { repetitionPenalty: 1.5, temperature: 0.1, topK: 1, topP: 0.5, minP: 0.5 }
    const { token, logProbability } = chooseToken(logits, options, new Set([3]), () => 0.5)
    // Float32 logits: 6e-8 of 0.9.
    expect([token, logProbability]).toEqual([1, expect.closeTo(Math.log(0.4), 6)])
    const huge = chooseToken(Float32Array.of(1e5, 1e5 + 1), { ...neutral, temperature: 0 }, none, () => 0)
    expect(huge.logProbability).toBeCloseTo(-Math.log(1 + 1 / Math.E), 6)
  })

  test.each([[[1, Number.NaN]], [[1, Infinity]], [[-Infinity, -Infinity]]])('refuses the logits %o', (values) => {
    expect(() => chooseToken(Float32Array.from(values), neutral, none, () => 0)).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED', where: 'logits' }),
    )
  })
})

describe('seededFractions', () => {
  const first = (seed: number, count: number) => Array.from({ length: count }, seededFractions(seed))

  test('gives the same for a seed, and others for another', () => {
    expect(first(7, 5)).toEqual(first(7, 5))
    expect(first(7, 5)).not.toEqual(first(8, 5))
    expect(first(-1, 3)).toEqual(first(2 ** 32 - 1, 3))
  })

  test('spreads evenly over [0, 1)', () => {
    const tenths = new Array<number>(10).fill(0)
    for (const fraction of first(1, 10_000)) tenths[Math.floor(10 * fraction)]!++
    // Five standard deviations of a count of 1000 in 10000: 150.
    for (const count of tenths) expect(Math.abs(count - 1000)).toBeLessThan(150)
  })
})

describe('checkOptions', () => {
  test('fills in defaults: the most likely token, and nothing left out or penalised', () => {
    expect(checkOptions({ seed: 3 })).toEqual({
      ...neutral,
      temperature: 0,
      maxNewTokens: 128,
      statisticsEvery: 0,
      statisticsFrom: 0,
      hostTimes: false,
      seed: 3,
      stop: { tokens: [], sequences: [] },
    })
    expect(Number.isSafeInteger(checkOptions({}).seed)).toBe(true)
  })

  test.each<[string, GenerateOptions]>([
    ['maxNewTokens', { maxNewTokens: 0 }],
    ['maxNewTokens', { maxNewTokens: 2.5 }],
    ['temperature', { temperature: -1 }],
    ['temperature', { temperature: Number.NaN }],
    ['topK', { topK: -1 }],
    ['topP', { topP: 0 }],
    ['topP', { topP: 1.1 }],
    ['minP', { minP: 2 }],
    ['repetitionPenalty', { repetitionPenalty: 0 }],
    ['repetitionPenalty', { repetitionPenalty: '2' as never }],
    ['seed', { seed: 0.5 }],
    ['statisticsEvery', { statisticsEvery: -1 }],
    ['statisticsFrom', { statisticsFrom: 0.5 }],
    ['hostTimes', { hostTimes: 1 as never }],
    ['stop.tokens', { stop: { tokens: [-1] } }],
    ['stop.sequences[1]', { stop: { sequences: [[1], []] } }],
  ])('refuses %s: %o', (where, options) => {
    expect(() => checkOptions(options)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION', where }))
  })
})
