import { createRuntime, type Runtime } from '@sparse-attention/core'
import { createRandom, makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { largestDifference, testFrame } from '../shared/test-frame.js'
import { rowSoftmaxReference } from './reference.js'
import { rowSoftmax } from './row-softmax.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const shape = { batch: 1, queryHeads: 2, kvHeads: 2, queryLength: 40, keyLength: 800, headDim: 8 }
// Rows 1 to 3 do not see the last columns, when causal.
const chunk = { firstRow: 1, rows: 6, columns: 100 }

async function softmax(values: Float32Array, causal: boolean): Promise<Float32Array> {
  using frame = testFrame(runtime, shape, makeInputs('gaussian', shape, 'f32', 1), { dtype: 'f32', causal, scale: 1 })
  const scores = frame.memory([2, chunk.rows, chunk.columns], values)
  const record = await rowSoftmax(runtime, causal, 8)
  await frame.submit([record(frame.frame, chunk, scores)])
  return (await frame.floats(scores)).slice(0, values.length)
}

function expected(values: Float32Array, causal: boolean): Float64Array {
  const out = new Float64Array(values.length)
  for (let row = 0; row < values.length / chunk.columns; row++) {
    const u = chunk.firstRow + (row % chunk.rows)
    const visible = causal ? Math.min(chunk.columns, Math.floor((u * 8 + 7 + 760) / 8) + 1) : chunk.columns
    out.set(
      rowSoftmaxReference(values.subarray(row * chunk.columns, (row + 1) * chunk.columns), visible),
      row * chunk.columns,
    )
  }
  return out
}

describe('row softmax', () => {
  test.each([false, true])('equals float64, causal %s', async (causal) => {
    const random = createRandom(3)
    const values = Float32Array.from({ length: 1200 }, () => random.gaussian() * 5)
    // exp may be off by a few ulp of numbers up to 1.
    expect(largestDifference(await softmax(values, causal), expected(values, causal))).toBeLessThan(1e-6)
  })

  test('huge scores do not overflow', async () => {
    const values = Float32Array.from({ length: 1200 }, (_, i) => (i % 2 === 0 ? 3e38 : -3e38))
    expect(largestDifference(await softmax(values, false), expected(values, false))).toBeLessThan(1e-6)
  })

  test('a NaN weighs nothing and spoils no other cell, also in a row of nothing else', async () => {
    const values = new Float32Array(1200).fill(1)
    values[5] = Number.NaN
    values.fill(Number.NaN, 100, 200)
    const actual = await softmax(values, false)
    expect(actual[5]).toBe(0)
    expect(actual[6]).toBeCloseTo(1 / 99, 7)
    expect(actual.slice(100, 200).every((weight) => weight === 0)).toBe(true)
    expect(actual[200]).toBeCloseTo(1 / 100, 7)
  })

  test('+∞ takes the row, −∞ nothing', async () => {
    const values = new Float32Array(1200)
    values[7] = Number.POSITIVE_INFINITY
    values[108] = Number.NEGATIVE_INFINITY
    const actual = await softmax(values, false)
    expect(actual[7]).toBe(1)
    expect(actual[8]).toBe(0)
    expect(actual[108]).toBe(0)
    expect(actual[109]).toBeCloseTo(1 / 99, 7)
  })
})
