import { type AttentionShape, createRuntime, type Runtime } from '@sparse-attention/core'
import { makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { testFrame } from '../shared/test-frame.js'
import { checkScores, lowest, type ScoresCase } from './check-scores.js'
import { sampledScores } from './sampled-scores.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const check = (shape: AttentionShape, options: ScoresCase) => checkScores(runtime, shape, options)

const shape = { batch: 2, queryHeads: 4, kvHeads: 2, queryLength: 100, keyLength: 150, headDim: 32 }

describe('sampled scores', () => {
  test('of the last rows equal float64, causal and not', async () => {
    await check(shape, { dtype: 'f32', causal: true, rows: 37 })
    const odd = { ...shape, batch: 1, queryHeads: 2, kvHeads: 1, headDim: 24 }
    await check(odd, { dtype: 'f16', causal: false, rows: 64 })
  })

  test('of listed rows: out of order, repeated, and outside of the queries', async () => {
    const scores = await check(shape, { dtype: 'f32', causal: true, rows: [99, 0, 5, 5, -1, 100, 42] })
    expect(scores.slice(4 * 150, 6 * 150).every((score) => score === lowest)).toBe(true)
  })

  test('of some heads', async () => {
    await check(shape, { dtype: 'f32', causal: true, rows: 3, heads: { first: 3, count: 3 } })
  })

  test('rows that see no key, with more queries than keys', async () => {
    const scores = await check({ ...shape, keyLength: 70 }, { dtype: 'f32', causal: true, rows: [10, 29, 30, 99] })
    expect(scores.slice(0, 140).every((score) => score === lowest)).toBe(true)
    expect(scores[140 + 1]).toBe(lowest)
    expect(scores[140]).not.toBe(lowest)
  })

  test('NaN in a key is the lowest number, infinity the largest, in its column alone', async () => {
    await check(shape, { dtype: 'f32', causal: true, rows: 8, poison: [20 * 32 + 3, Number.NaN] })
  })

  test('rows and memory that do not fit are refused', async () => {
    using frame = testFrame(runtime, shape, makeInputs('gaussian', shape, 'f32', 4), {
      dtype: 'f32',
      causal: true,
      scale: 1,
    })
    const scores = frame.memory([8, 4, 150])
    const heads = { first: 0, count: 8 }
    const [last, given] = await Promise.all([
      sampledScores(runtime, { dtype: 'f32', headDim: 32, causal: true }, 'last'),
      sampledScores(runtime, { dtype: 'f32', headDim: 32, causal: true }, 'given'),
    ])
    const refusal = (code: string, where: string) => expect.objectContaining({ code, where })
    expect(() => last(frame.frame, { count: 101 }, heads, scores)).toThrow(refusal('INVALID_ARGUMENT', 'rows.count'))
    expect(() => last(frame.frame, { count: 5 }, heads, scores)).toThrow(refusal('BUFFER_TOO_SMALL', 'scores'))
    expect(() => last(frame.frame, { count: 2 }, { first: 7, count: 2 }, scores)).toThrow(
      refusal('INVALID_ARGUMENT', 'heads.count'),
    )
    const indices = frame.memory([4])
    expect(() => last(frame.frame, { count: 4, indices }, heads, scores)).toThrow(
      refusal('INVALID_ARGUMENT', 'rows.indices'),
    )
    expect(() => given(frame.frame, { count: 4 }, heads, scores)).toThrow(refusal('INVALID_ARGUMENT', 'rows.indices'))
  })
})
