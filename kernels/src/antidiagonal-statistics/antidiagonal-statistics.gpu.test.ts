import { createRuntime, type Runtime } from '@sparse-attention/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { checkStatistics, type StatisticsCase } from './check-statistics.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const check = (options: StatisticsCase) => checkStatistics(runtime, options)

const small = { batch: 1, queryHeads: 2, kvHeads: 2, queryLength: 130, keyLength: 200, headDim: 32 }

describe('antidiagonal statistics', () => {
  test('grouped heads, batch 2, f32', async () => {
    const shape = { batch: 2, queryHeads: 2, kvHeads: 1, queryLength: 150, keyLength: 150, headDim: 64 }
    expect(await check({ shape, dtype: 'f32', stride: 8, block: 128, causal: false })).toBe(4 * 19 * 2)
  })

  test.each([
    [4, 128],
    [16, 64],
  ])('stride %i, blocks of %i, causal: blocks that a row sees in part', async (stride, block) => {
    expect(await check({ shape: small, dtype: 'f16', stride, block, causal: true })).toBeGreaterThan(0)
  })

  test('head_dim 24 and 80, more columns than rows', async () => {
    const shape = { batch: 1, queryHeads: 1, kvHeads: 1, queryLength: 33, keyLength: 700, headDim: 24 }
    await check({ shape, dtype: 'f16', stride: 16, block: 128, causal: false })
    await check({ shape: { ...shape, headDim: 80 }, dtype: 'f16', stride: 4, block: 64, causal: false })
  })

  test('chunks of rows, also where rows see no key', async () => {
    const shape = { ...small, queryLength: 200, keyLength: 130 }
    await check({ shape, dtype: 'f32', stride: 4, block: 64, causal: true, rows: 16 })
  })

  test('a NaN weighs nothing and spoils one column, +∞ is the largest number', async () => {
    const at = 70 * 32 + 3
    await check({ shape: small, dtype: 'f32', stride: 8, block: 64, causal: true, poison: [at, Number.NaN] })
    await check({
      shape: small,
      dtype: 'f32',
      stride: 8,
      block: 64,
      causal: false,
      poison: [at, Number.POSITIVE_INFINITY],
    })
  })
})
