import { describe, expect, it } from 'vitest'
import { definitionOf, definitions, whyNot } from './methods.js'
import { factsOf, methodsOf, parseGrid, requestOf, type Setup, usualSetup, withGrid } from './setup.js'

const device = { name: '', tier: 'portable', software: true, implementation: '' }
const setup = usualSetup({ device, model: { layers: 8, maxLength: 16384, headDim: 64 } })

describe('parseGrid', () => {
  it.each([
    ['16x16', [16, 16]],
    ['4×8×8', [4, 8, 8]],
    [' 4, 8 ', [4, 8]],
    ['', undefined],
    ['16', null],
    ['1x2x3x4', null],
    ['0x4', null],
    ['4x-1', null],
    ['4xa', null],
  ])('%j is %j', (text, grid) => {
    expect(parseGrid(text)).toEqual(grid)
  })
})

describe('whyNot', () => {
  it('finds a setup for every method, and names what is missing elsewhere', () => {
    const setups: Setup[] = [
      setup,
      { ...setup, causal: false },
      { ...setup, queryLength: 1 },
      withGrid(setup, '16x16'),
      withGrid(setup, '4x8x8'),
    ]
    for (const definition of definitions) {
      const reasons = setups.map((each) => whyNot(definition, factsOf(each)))
      expect([definition.id, reasons.includes(undefined)]).toEqual([definition.id, true])
    }
    expect(whyNot(definitionOf('quest'), factsOf(setup))).toBe('only for one query')
    expect(whyNot(definitionOf('a-shape'), factsOf({ ...setup, causal: false }))).toBe('only for causal attention')
    expect(whyNot(definitionOf('bilevel-routing'), factsOf({ ...setup, causal: false }))).toBe('needs a token grid')
    expect(whyNot(definitionOf('xattention'), factsOf({ ...setup, headDim: 512 }))).toBe('not for head_dim 512')
  })
})

it('a grid sets the lengths; what was changed of the options stands over the budgets for the length', () => {
  const video = withGrid(setup, '4x8x8')
  expect(factsOf(video)).toMatchObject({ queryLength: 256, keyLength: 256, causal: false, grid: [4, 8, 8] })
  const changed: Setup = { ...setup, methods: [{ id: 'xattention', options: { threshold: 0.7 } }, setup.methods[1]] }
  expect(methodsOf(changed)[0].options).toEqual({
    ...definitionOf('xattention').scaled(setup.keyLength),
    threshold: 0.7,
  })
  expect(requestOf({ ...setup, origin: 'file' })).toBeUndefined()
})
