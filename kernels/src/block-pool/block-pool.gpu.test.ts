import { createRuntime, type DType, type Runtime } from '@sparse-attention/core'
import { makeInputs, uploadTensor } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { largestDifference, testFrame } from '../shared/test-frame.js'
import { blockPool, type PoolMode } from './block-pool.js'
import { blockBoundsReference, blockPoolReference } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const cases: [length: number, headDim: number, dtype: DType, block: number, layout: 'BHLD' | 'BLHD'][] = [
  [128, 64, 'f32', 64, 'BHLD'],
  [200, 80, 'f16', 64, 'BLHD'],
  [129, 256, 'f32', 128, 'BLHD'],
  [70, 24, 'f16', 64, 'BHLD'],
  [1, 8, 'f16', 64, 'BHLD'],
]

/** Pools q of two batch entries with three heads, in which `poison` lies at element `at`. */
async function pool(
  [length, headDim, dtype, block, layout]: (typeof cases)[number],
  mode: PoolMode = 'mean',
  at = 0,
  poison?: number,
): Promise<{ actual: Float32Array; expected: Float64Array }> {
  const shape = { batch: 2, queryHeads: 3, kvHeads: 1, queryLength: length, keyLength: 1, headDim }
  const inputs = makeInputs('gaussian', shape, dtype, 3)
  if (poison !== undefined) inputs.q[at] = poison
  using frame = testFrame(runtime, shape, inputs, { dtype, causal: false, scale: 1 })
  using x = uploadTensor(runtime, dtype, [2, 3, length, headDim], inputs.q, layout)
  const record = await blockPool(runtime, { dtype, headDim }, block, mode)
  const reference = mode === 'mean' ? blockPoolReference : blockBoundsReference
  const expected = reference(inputs.q, { heads: 6, length, headDim }, block)
  const pooled = frame.memory([expected.length])
  await frame.submit([record(x, pooled)])
  return { actual: await frame.floats(pooled), expected }
}

describe('block pool', () => {
  test.each(cases)('the mean of %i rows of %i %s in blocks of %i, %s, equals the float64 mean', async (...given) => {
    const { actual, expected } = await pool(given)
    // Sums of at most 128 numbers of size about 1, in float32: 128 roundings of at most 1e-6 in the sum, divided by 128.
    expect(largestDifference(actual, expected)).toBeLessThan(1e-6)
  })

  test('NaN stays in its block and column', async () => {
    const at = (200 + 70) * 32 + 5 // head 1, row 70: its second block
    const { actual, expected } = await pool([200, 32, 'f32', 64, 'BHLD'], 'mean', at, Number.NaN)
    const block = (4 + 1) * 32 + 5
    expect([...actual.keys()].filter((i) => Number.isNaN(actual[i]))).toEqual([block])
    actual[block] = expected[block] = 0
    expect(largestDifference(actual, expected)).toBeLessThan(1e-6) // as above
  })

  test.each([...cases, [50, 64, 'f16', 16, 'BLHD'] as const])(
    'the bounds of %i rows of %i %s in blocks of %i, %s, are exact',
    async (...given) => {
      const { actual, expected } = await pool([...given], 'min-max')
      expect(actual.slice(0, expected.length)).toEqual(Float32Array.from(expected))
    },
  )

  test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    'bounds of a block that holds %d: only its channel changes',
    async (poison) => {
      const at = (200 + 70) * 32 + 5 // head 1, row 70: its second block
      const given: (typeof cases)[number] = [200, 32, 'f32', 64, 'BHLD']
      const clean = await pool(given, 'min-max')
      const { actual, expected } = await pool(given, 'min-max', at, poison)
      expect(actual.slice(0, expected.length)).toEqual(Float32Array.from(expected))
      const minimum = (4 + 1) * 64 + 5
      const changed = [...expected.keys()].filter((i) => !Object.is(actual[i], clean.actual[i]))
      expect(changed).toEqual([minimum, minimum + 32].filter((i) => !Object.is(expected[i], clean.expected[i])))
      expect(changed.length).toBe(Number.isNaN(poison) ? 2 : 1)
    },
  )
})
