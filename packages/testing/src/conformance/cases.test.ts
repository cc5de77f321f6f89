import { describe, expect, test } from 'vitest'
import { type Case, caseName, conformanceCases } from './cases.js'
import { faultyMethod } from './faulty-method.js'
import { sliceOf } from './slice.js'

describe('the grid', () => {
  const { definition } = faultyMethod('none')
  const cases = conformanceCases(definition, { q: 128, k: 128 })

  test('has about 60 cases with names of their own', () => {
    expect(cases.length).toBeGreaterThan(40)
    expect(cases.length).toBeLessThan(90)
    expect(new Set(cases.map(caseName)).size).toBe(cases.length)
  })

  test('has a slice of whole groups that share their kernels, a quarter of them or little more', () => {
    const kernels = ({ headDim, dtype, causal }: Case) => `${headDim} ${dtype} ${causal}`
    const slice = sliceOf(cases)
    const groups = new Set(slice.map(kernels))
    expect(slice).toEqual(cases.filter((c) => groups.has(kernels(c))))
    const all = new Set(cases.map(kernels)).size
    expect(groups.size).toBeGreaterThanOrEqual(all / 4)
    // One more is that of the longest cases.
    expect(groups.size).toBeLessThanOrEqual(Math.ceil(all / 4) + 1)
    expect(slice.some((c) => c.causal && c.keyLength > 4000)).toBe(true)
  })

  test('has every length around a block, with every other', () => {
    for (const q of [1, 127, 128, 129, 195]) {
      for (const k of [1, 127, 128, 129, 195]) {
        expect(
          cases.some((c) => c.queryLength === q && c.keyLength === k),
          `${q}, ${k}`,
        ).toBe(true)
      }
    }
  })

  test('keeps to the capabilities', () => {
    const capabilities = {
      causal: [true],
      queryLength: 'one',
      dtypes: ['f16'],
      headDim: { multipleOf: 64, max: 128 },
    } as const
    const narrow = conformanceCases({ ...definition, capabilities }, { q: 64, k: 64 })
    expect(narrow.length).toBeGreaterThan(20)
    for (const c of narrow) {
      expect(c).toMatchObject({ causal: true, queryLength: 1, dtype: 'f16' })
      expect([64, 128]).toContain(c.headDim)
    }
    const many = conformanceCases(
      { ...definition, capabilities: { ...definition.capabilities, queryLength: 'many' } },
      { q: 64, k: 64 },
    )
    expect(many.every((c) => c.queryLength > 1)).toBe(true)
  })

  test('takes each choice, and thresholds for each head', () => {
    const options = {
      threshold: { type: 'per-head', default: 0.5, min: 0, max: 1, description: '' },
      stride: { type: 'choice', default: 4, choices: [4, 8], description: '' },
    } as const
    const made = conformanceCases({ ...definition, options, neutral: { threshold: 1 } } as never, { q: 64, k: 64 })
    for (const variant of ['default', 'neutral', 'scaled', 'sparsest', 'per-head']) {
      for (const stride of [4, 8])
        expect(made.some((c) => c.variant === variant && c.choices.stride === stride)).toBe(true)
    }
  })
})
