import { describe, expect, test } from 'vitest'
import { defineMethod } from './define-method.js'
import { SparseAttentionError } from './errors.js'
import type { MethodDefinition, OptionValue } from './method.js'

interface Options extends Record<string, OptionValue> {
  readonly budget: number
  readonly share: number
  readonly stride: number
  readonly order: string
  readonly threshold: number | readonly (readonly number[])[]
}

const definition: MethodDefinition<Options> = {
  id: 'example',
  title: 'Example',
  phase: 'any',
  summary: 'For tests of options.',
  citation: { title: 'None', authors: 'Nobody', year: 2026, url: 'https://example.org' },
  options: {
    budget: { type: 'number', default: 16, min: 1, max: 64, integer: true, description: '' },
    share: { type: 'number', default: 0.5, description: '' },
    stride: { type: 'choice', default: 8, choices: [4, 8], description: '' },
    order: { type: 'choice', default: 'up', choices: ['up', 'down'], description: '' },
    threshold: { type: 'per-head', default: 0.9, min: 0, max: 1, description: '' },
  },
  capabilities: { causal: [true], queryLength: 'any', dtypes: ['f32'], headDim: { multipleOf: 8, max: 256 } },
  neutral: { threshold: 1 },
  scaled: () => ({ budget: 4 }),
  create: () => Promise.reject(new Error('not here')),
}
const example = defineMethod(definition)

test('the factory fills in defaults and carries its definition', () => {
  expect(example.definition).toBe(definition)
  const configured = example({ budget: 3 })
  expect(configured.method).toBe(definition)
  expect(configured.options).toEqual({ budget: 3, share: 0.5, stride: 8, order: 'up', threshold: 0.9 })
  expect(example().options).toEqual({ budget: 16, share: 0.5, stride: 8, order: 'up', threshold: 0.9 })
})

test('an option that is undefined takes its default', () => {
  expect(example({ budget: undefined } as never).options.budget).toBe(16)
})

describe('values that are taken', () => {
  test.each([
    [{ budget: 1 }],
    [{ budget: 64 }],
    [{ share: -1e9 }],
    [{ stride: 4 }],
    [{ order: 'down' }],
    [{ threshold: 0 }],
    [{ threshold: [[0, 1]] }],
    [{ threshold: [[0.1], [0.2]] }],
  ])('%j', (given) => {
    expect(example(given).options).toMatchObject(given)
  })
})

describe('values that are refused with INVALID_OPTION, by name', () => {
  test.each([
    [{ budget: 0 }],
    [{ budget: 65 }],
    [{ budget: 1.5 }],
    [{ budget: Number.NaN }],
    [{ budget: '16' }],
    [{ budget: null }],
    [{ budget: [[1]] }],
    [{ share: Number.POSITIVE_INFINITY }],
    [{ share: Number.NaN }],
    [{ stride: 5 }],
    [{ stride: '8' }],
    [{ order: 'sideways' }],
    [{ threshold: 1.1 }],
    [{ threshold: [] }],
    [{ threshold: [[]] }],
    [{ threshold: [0.5] }],
    [{ threshold: [[0.5], [0.5, 0.5]] }],
    [{ threshold: [[0.5, 2]] }],
    [{ threshold: [[0.5, Number.NaN]] }],
    [{ threshold: 'all' }],
    [{ unknown: 1 }],
    [{ toString: 1 }],
  ])('%j', (given) => {
    const [name] = Object.keys(given)
    let error: unknown
    try {
      example(given as never)
    } catch (thrown) {
      error = thrown
    }
    expect(SparseAttentionError.is(error)).toBe(true)
    expect(error).toMatchObject({ code: 'INVALID_OPTION', where: name })
    expect((error as SparseAttentionError).message).toContain(name)
  })
})

test('the error lists what is allowed', () => {
  expect(() => example({ order: 'sideways' })).toThrow('Use one of up, down.')
  expect(() => example({ budget: 0 })).toThrow('Use an integer from 1 to 64.')
  expect(() => example({ unknown: 1 } as never)).toThrow('Its options are budget, share, stride, order, threshold.')
  const none = defineMethod<Record<never, never>>({
    ...definition,
    options: {},
    neutral: {},
    scaled: () => ({}),
  } as never)
  expect(() => none({ x: 1 } as never)).toThrow('It takes no options.')
})

test('values that JSON does not know are refused like others, and long ones shown in part', () => {
  const cycle: unknown[] = []
  cycle.push(cycle)
  for (const budget of [5n, cycle, 'x'.repeat(1e6), Symbol('s'), () => 5]) {
    let error: unknown
    try {
      example({ budget } as never)
    } catch (thrown) {
      error = thrown
    }
    expect(error).toMatchObject({ code: 'INVALID_OPTION', where: 'budget' })
    expect((error as Error).message.length).toBeLessThan(400)
  }
})
