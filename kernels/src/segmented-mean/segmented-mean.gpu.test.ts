import { createRuntime, type DType, type Runtime } from '@sparse-attention/core'
import { createRandom, type Layout, roundTo, uploadTensor } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { largestDifference } from '../shared/test-frame.js'
import { randomPermutation, testMemory } from '../shared/test-memory.js'
import { segmentedMeanReference } from './reference.js'
import { segmentedMean } from './segmented-mean.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const random = createRandom(6)
const [batch, heads] = [2, 3]

interface Case {
  readonly dtype: DType
  readonly headDim: number
  readonly length: number
  readonly groups: number
  readonly layout: Layout
  readonly value: () => number
}

/** Averages groups of random sizes, some of them empty; returns means, sizes and what they should be. */
async function run({ dtype, headDim, length, groups, layout, value }: Case, on: Runtime = runtime) {
  using memory = testMemory(on)
  const segments = batch * heads
  const values = roundTo(dtype, Float64Array.from({ length: segments * length * headDim }, value))
  const orders = Array.from({ length: segments }, () => randomPermutation(random, length))
  const cuts = orders.map(() => {
    const inner = Array.from({ length: groups - 1 }, () => random.integer(0, length)).sort((a, b) => a - b)
    return [0, ...inner, length]
  })
  using x = uploadTensor(on, dtype, [batch, heads, length, headDim], values, layout)
  const means = memory.words(new Float32Array(segments * groups * headDim).fill(7))
  const sizes = memory.words(segments * groups)
  const record = await segmentedMean(on, { dtype, headDim })
  const order = memory.words(Int32Array.from(orders.flat()))
  const starts = memory.words(Int32Array.from(cuts.flat()))
  const dispatches = record(x, { groups, order, starts }, means, sizes)
  await memory.submit(dispatches)
  const members = cuts.map((cut, s) => cut.slice(1).map((end, g) => orders[s]!.slice(cut[g], end)))
  const expected = members.flatMap((inSegment, s) => {
    const rows = values.slice(s * length * headDim, (s + 1) * length * headDim)
    return [...segmentedMeanReference(rows, headDim, inSegment, new Float64Array(groups * headDim).fill(7))]
  })
  expect([...(await memory.read(sizes))]).toEqual(members.flat().map((rows) => rows.length))
  return { actual: new Float32Array((await memory.read(means)).buffer), expected, dispatches: dispatches.length }
}

const gaussian = () => random.gaussian()

describe('segmented mean', () => {
  test.each<Case>([
    { dtype: 'f32', headDim: 8, length: 300, groups: 7, layout: 'BLHD', value: gaussian },
    { dtype: 'f16', headDim: 80, length: 129, groups: 12, layout: 'BLHD', value: gaussian },
    { dtype: 'f32', headDim: 256, length: 65, groups: 1, layout: 'BHLD', value: gaussian },
    { dtype: 'f16', headDim: 80, length: 3, groups: 9, layout: 'BHLD', value: gaussian },
  ])('$length rows of $headDim $dtype in $groups groups, $layout, equals float64', async (given) => {
    const { actual, expected } = await run(given)
    // Sums of at most 300 numbers of size about 1, in float32: 300 roundings of at most 2e-6 in the sum, divided by 300.
    expect(largestDifference(actual, expected)).toBeLessThan(2e-6)
  })

  test('sums of integers are exact, cut into several dispatches too', async () => {
    const given: Case = {
      dtype: 'f16',
      headDim: 16,
      length: 200,
      groups: 5,
      layout: 'BLHD',
      value: () => random.integer(-9, 9),
    }
    using cutting = await createRuntime({ device: runtime.device, work: { operationsPerDispatch: 200 * 16 } })
    for (const on of [runtime, cutting]) {
      const { actual, expected, dispatches } = await run(given, on)
      expect(dispatches).toBe(on === cutting ? 6 : 1)
      // WGSL's division is within 2.5 ulp of a mean of size at most 9: 2.5 · 2^-20.
      expect(largestDifference(actual, expected)).toBeLessThanOrEqual(2.5 * 2 ** -20)
    }
  })

  test('one row each is that row', async () => {
    using memory = testMemory(runtime)
    const values = Float32Array.from({ length: 2 * 50 * 8 }, gaussian)
    using x = runtime.tensor('f32', [1, 2, 50, 8], values)
    const rows = [3, 3, 49, 0, 7, 11, 12, 13]
    const [means, sizes] = [memory.words(8 * 8), memory.words(8)]
    const record = await segmentedMean(runtime, { dtype: 'f32', headDim: 8 })
    const order = memory.words(Int32Array.from(rows))
    await memory.submit(record(x, { groups: 4, order, starts: 'one-row-each' }, means, sizes))
    const expected = rows.flatMap((row, i) => {
      const first = ((i < 4 ? 0 : 50) + row) * 8
      return [...values.subarray(first, first + 8)]
    })
    expect([...new Float32Array((await memory.read(means)).buffer)]).toEqual(expected)
    expect([...(await memory.read(sizes))]).toEqual(rows.map(() => 1))
  })
})
