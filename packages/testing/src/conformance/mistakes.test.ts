import type { Runtime } from '@sparse-attention/core'
import { beforeAll, describe, expect, test } from 'vitest'
import { testRuntime } from '../test-runtime.js'
import { type Case, conformanceCases } from './cases.js'
import { checkCase } from './check-case.js'
import { contextFor, gridFor } from './context.js'
import { blockSize } from './describe-method.js'
import { type Fault, faultyMethod, firstElementReference } from './faulty-method.js'
import { faultyState, type StateFault } from './faulty-state.js'
import { properties } from './properties.js'

// The suite finds each mistake: by the first of its cases that fails, or by the property that is there for it.
describe('mistakes', () => {
  let runtime: Runtime
  beforeAll(async () => {
    runtime = await testRuntime()
  })

  const block = blockSize(faultyMethod('none'), firstElementReference, undefined)
  const cases = conformanceCases(faultyMethod('none').definition, block)

  async function firstFailure(fault: Fault, wanted: (c: Case) => boolean): Promise<string> {
    const method = { factory: faultyMethod(fault), reference: firstElementReference }
    for (const c of cases.filter(wanted)) {
      try {
        await checkCase(runtime, method, c)
      } catch (error) {
        return (error as Error).message
      }
    }
    return 'passed'
  }

  const square = (c: Case) => c.queryLength > 300 && c.variant === 'default' && c.inputs === 'gaussian'

  test.each<[Fault, (c: Case) => boolean, RegExp]>([
    ['keeps another block', square, /keeps key blocks \{.*\}, the reference \{.*\}/],
    ['forgets the forced block', (c) => c.variant === 'sparsest', /are forced/],
    ['takes heads modulo KV heads', (c) => c.kvHeads === 2 && c.queryHeads === 8, /keeps key blocks|out has a/],
    ['causal from the upper left', (c) => c.causal && c.keyLength > c.queryLength, /keeps key blocks|out has a/],
    ['sees one key too many', (c) => c.causal && square(c), /out has a/],
    ['ignores the scale', (c) => c.scale === 0.25 && c.inputs === 'gaussian', /out has a/],
    ['LSE in base 2', (c) => c.call === 'run' && square(c), /lse has a/],
    ['empty rows are NaN', (c) => c.causal && c.queryLength > c.keyLength, /out has a largest error of Infinity/],
    ['leaves a key out', square, /out has a/],
    ['sums in half precision', square, /out has a/],
    ['does not take off the maximum', (c) => c.inputs === 'huge-logits', /out has a|lse has a/],
    ['writes behind the last row', (c) => c.layout === 'BLHD' && c.call !== 'run', /elements around a 4-axis output/],
    ['ignores strides of the output', (c) => c.layout === 'BLHD' && c.call !== 'run', /elements around|out has a/],
    ['reads back', square, /1 read-backs during the call/],
    ['neutral options drop a block', (c) => c.variant === 'neutral', /keeps key blocks/],
  ])('%s', async (fault, wanted, message) => {
    expect(await firstFailure('none', wanted)).toBe('passed')
    expect(await firstFailure(fault, wanted)).toMatch(message)
  })

  test.each<[Fault, string, RegExp]>([
    ['density rises with the threshold', 'density falls', /threshold = .* keeps/],
    ['keeps state between calls', 'every run gives the same bits', /run 2: element/],
    ['leaks a buffer with each call', 'fifty runs', /50 runs left 50 buffers/],
    ['leaks a buffer when disposed', 'what an attention allocates', /left 1 buffers of 64 bytes/],
    ['leaks a buffer when disposed', 'whichever buffer', /the 1th buffer, whose lack is thrown, ends in RangeError/],
    ['leaks a buffer with each call', 'an abort before any submit', /calls that were stopped left \d+ buffers/],
    ['keeps state between calls', 'an abort before any submit', /after a call that was stopped at submit 1, out is/],
    ['multiplies masked keys by zero', 'NaN and infinity in one key', /does not read it, but its output changed/],
    ['ignores the given plan', 'a given plan', /the given plan: out has a/],
    ['sees one key too many', 'keys and values beyond the causal limit', /does not read it, but its output changed/],
    ['takes heads modulo KV heads', 'GQA equals repeated', /the run with repeated keys/],
  ])('%s: property “%s”', async (fault, name, message) => {
    const check = async (given: Fault) => {
      const method = { factory: faultyMethod(given), reference: firstElementReference }
      const property = properties(method.factory.definition).find((p) => p.name.startsWith(name))!
      await property.check({ runtime, method, block })
    }
    await check('none')
    await expect(check(fault)).rejects.toThrow(message)
  })
})

describe('mistakes in carrying state', () => {
  const block = { q: 64, k: 64 }

  async function check(fault: StateFault, name: string): Promise<void> {
    const factory = faultyState(fault)
    const context = contextFor(factory.definition.capabilities, undefined)
    const property = properties(factory.definition).find((p) => p.name.startsWith(name))!
    const method = { factory, reference: firstElementReference, context }
    await property.check({ runtime: await testRuntime(), method, block })
  }

  test('none', async () => {
    for (const name of ['videos, branches', 'a state that is reset', 'calls of one shape']) await check('none', name)
  })

  test.each<[StateFault, string, RegExp]>([
    ['one memory for all videos', 'videos, branches', /step . of another video|beside others/],
    ['one memory for all branches', 'videos, branches', /step . of another branch|beside others/],
    ['one memory for all layers', 'videos, branches', /step . of another layer|beside others/],
    ['reset forgets nothing', 'a state that is reset', /step . after reset/],
    ['goes on after another shape', 'a state that is reset', /step . after another shape/],
    ['allocates with each call', 'calls of one shape', /the state went from \d+ to \d+ bytes/],
  ])('%s: property “%s”', async (fault, name, message) => {
    await expect(check(fault, name)).rejects.toThrow(message)
  })

  test('grids and self-attention are as the capabilities say', async () => {
    const runtime = await testRuntime()
    const factory = faultyState('none')
    const context = contextFor(factory.definition.capabilities, undefined)
    const found = properties(factory.definition).filter(({ name }) => /grid|different tokens/.test(name))
    expect(found.length).toBe(2)
    for (const { check } of found) await check({ runtime, method: { factory, context }, block })
  })

  test('self-attention has cases of one length, and each shape a grid that fits it', () => {
    const { definition } = faultyState('none')
    const cases = conformanceCases(definition, block)
    expect(cases.length).toBeGreaterThan(20)
    for (const c of cases) {
      expect(c.keyLength).toBe(c.queryLength)
      for (const axes of [2, 3]) {
        const grid = gridFor(c, axes)
        expect(grid.length).toBe(axes)
        const tokens = grid.reduce((product, size) => product * size, 1)
        expect(tokens).toBeLessThanOrEqual(c.keyLength)
        expect(tokens).toBeGreaterThan(0.7 * c.keyLength - 1)
      }
    }
  })
})
