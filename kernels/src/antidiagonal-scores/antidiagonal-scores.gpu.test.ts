import { type AttentionShape, createRuntime, type DType, type Runtime } from '@sparse-attention/core'
import { makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { chunkBytes } from '../shared/strided.js'
import { largestDifference, testFrame } from '../shared/test-frame.js'
import { antidiagonalScores } from './antidiagonal-scores.js'
import { antidiagonalScoresReference } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const cases: [name: string, shape: AttentionShape, dtype: DType, stride: number, causal: boolean][] = [
  [
    'f32 GQA 2',
    { batch: 2, queryHeads: 2, kvHeads: 1, queryLength: 150, keyLength: 150, headDim: 64 },
    'f32',
    8,
    false,
  ],
  ['f16', { batch: 1, queryHeads: 1, kvHeads: 1, queryLength: 90, keyLength: 300, headDim: 80 }, 'f16', 4, false],
  [
    'head_dim 24',
    { batch: 1, queryHeads: 1, kvHeads: 1, queryLength: 33, keyLength: 70, headDim: 24 },
    'f16',
    16,
    false,
  ],
  ['causal', { batch: 1, queryHeads: 2, kvHeads: 2, queryLength: 130, keyLength: 200, headDim: 32 }, 'f32', 4, true],
]

describe('antidiagonal scores', () => {
  test.each(cases)('%s equals the float64 sum', async (_, shape, dtype, stride, causal) => {
    const inputs = makeInputs('gaussian', shape, dtype, 7)
    const config = { ...shape, dtype, causal, scale: 0.125 }
    using frame = testFrame(runtime, shape, inputs, config)
    const chunk = {
      firstRow: 0,
      rows: Math.ceil(shape.queryLength / stride),
      columns: Math.ceil(shape.keyLength / stride),
    }
    const heads = shape.batch * shape.queryHeads
    const out = frame.memory([heads, chunk.rows, chunk.columns])
    const scores = await antidiagonalScores(runtime, config, stride)
    await frame.submit([scores(frame.frame, chunk, out)])
    const expected = antidiagonalScoresReference(shape, inputs.q, inputs.k, config.scale, stride)
    const actual = await frame.floats(out)
    expect(chunkBytes(heads, chunk)).toBe(expected.length * 4)
    if (causal) {
      // Cells whose strided row sees no key of theirs are undefined.
      const offset = shape.keyLength - shape.queryLength
      for (let at = 0; at < expected.length; at++) {
        const u = Math.floor(at / chunk.columns) % chunk.rows
        if ((at % chunk.columns) * stride > u * stride + stride - 1 + offset) expected[at] = actual[at]!
      }
    }
    // Sums of stride·head_dim products of size about 1, scaled by 1/64: float32 rounds each to 1e-7 of it.
    expect(largestDifference(actual, expected)).toBeLessThan(1e-5)
  })

  test('a chunk of rows equals those rows of the whole', async () => {
    const shape = { batch: 1, queryHeads: 2, kvHeads: 1, queryLength: 200, keyLength: 64, headDim: 32 }
    const inputs = makeInputs('gaussian', shape, 'f32', 8)
    const config = { ...shape, dtype: 'f32' as const, causal: false, scale: 0.125 }
    using frame = testFrame(runtime, shape, inputs, config)
    const scores = await antidiagonalScores(runtime, config, 8)
    const whole = frame.memory([2, 25, 8])
    const part = frame.memory([2, 9, 8])
    await frame.submit([
      scores(frame.frame, { firstRow: 0, rows: 25, columns: 8 }, whole),
      scores(frame.frame, { firstRow: 16, rows: 9, columns: 8 }, part),
    ])
    const all = await frame.floats(whole)
    const rows = await frame.floats(part)
    expect([...rows.slice(0, 72)]).toEqual([...all.slice(16 * 8, 25 * 8)])
    expect([...rows.slice(72, 144)]).toEqual([...all.slice((25 + 16) * 8, 50 * 8)])
  })
})
