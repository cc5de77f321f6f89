import { createRuntime, type Runtime, uploadPlan } from '@sparse-attention/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { dense } from '../dense/method.js'
import {
  checkPlan,
  geometryOf,
  randomBlocks,
  randomClusters,
  randomStripes,
  shapeOf,
  type TestCall,
} from './test-plans.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

describe('over blocks', () => {
  const cases: (TestCall & { blockQ: number; blockK: number; density: number })[] = [
    { dtype: 'f32', causal: true, queryLength: 300, keyLength: 300, headDim: 64, blockQ: 64, blockK: 64, density: 0.5 },
    {
      dtype: 'f16',
      causal: false,
      queryLength: 130,
      keyLength: 390,
      headDim: 64,
      blockQ: 128,
      blockK: 128,
      density: 0.3,
    },
    {
      dtype: 'f16',
      causal: true,
      queryLength: 150,
      keyLength: 270,
      headDim: 128,
      blockQ: 64,
      blockK: 192,
      density: 0.4,
    },
    { dtype: 'f32', causal: true, queryLength: 70, keyLength: 2300, headDim: 32, blockQ: 64, blockK: 64, density: 0.1 },
    // Every score is 0, of which keys that are not there must have no part; and the lowest product scores highest.
    ...[0, -0.4].map((scale) => ({
      dtype: 'f16' as const,
      causal: false,
      queryLength: 20,
      keyLength: 90,
      headDim: 16,
      blockQ: 64,
      blockK: 64,
      density: 0.7,
      scale,
    })),
    // Heads enough for the kernels that only large calls are worth.
    {
      dtype: 'f16',
      causal: true,
      queryLength: 130,
      keyLength: 90,
      headDim: 16,
      queryHeads: 64,
      blockQ: 128,
      blockK: 64,
      density: 0.5,
    },
  ]
  test.each(cases)('$dtype $queryLength×$keyLength head_dim $headDim blocks $blockQ×$blockK at density $density', (c) =>
    checkPlan(runtime, c, randomBlocks(c)),
  )
})

describe('over stripes', () => {
  const cases: (TestCall & { heads: number; blockQ: number; width: number })[] = [
    { dtype: 'f16', causal: true, queryLength: 200, keyLength: 300, headDim: 64, heads: 4, blockQ: 64, width: 64 },
    { dtype: 'f32', causal: false, queryLength: 70, keyLength: 190, headDim: 128, heads: 2, blockQ: 128, width: 13 },
    { dtype: 'f16', causal: true, queryLength: 130, keyLength: 90, headDim: 32, heads: 4, blockQ: 64, width: 7 },
  ]
  test.each(cases)('$dtype $queryLength×$keyLength head_dim $headDim, $heads heads, stripes of $width', (c) =>
    checkPlan(runtime, c, randomStripes(c)),
  )
})

describe('over blocks of different sizes', () => {
  const cases: (TestCall & { queryBlocks: number; keyBlocks: number; keyHeads: number })[] = [
    {
      dtype: 'f16',
      causal: false,
      queryLength: 300,
      keyLength: 280,
      headDim: 64,
      queryBlocks: 5,
      keyBlocks: 9,
      keyHeads: 2,
    },
    {
      dtype: 'f32',
      causal: true,
      queryLength: 90,
      keyLength: 120,
      headDim: 32,
      queryBlocks: 70,
      keyBlocks: 40,
      keyHeads: 4,
    },
  ]
  test.each(cases)('$dtype $queryBlocks blocks of $queryLength queries, $keyBlocks of $keyLength keys', (c) =>
    checkPlan(runtime, c, randomClusters(c)),
  )
})

test('a plan of a kind that was not compiled is refused before any work', async () => {
  const c: TestCall = { dtype: 'f32', causal: false, queryLength: 64, keyLength: 64, headDim: 32 }
  const shape = shapeOf(c)
  using attention = await runtime.use(dense(), { ...shape, ...c })
  using q = runtime.tensor('f32', [2, 4, 64, 32])
  using k = runtime.tensor('f32', [2, 2, 64, 32])
  const lists = [{ width: 1, capacity: 1 }]
  const host = { kind: 'stripe', ...geometryOf(c), blockQ: 64, heads: 4, lists } as const
  using plan = uploadPlan(runtime, { ...host, counts: new Int32Array(8), indices: new Int32Array(8) }, shape)
  await expect(attention.run({ q, k, v: k }, { plan })).rejects.toThrow(
    expect.objectContaining({
      code: 'UNSUPPORTED',
      fix: "Use a method that makes such plans, e.g. dense({ plan: 'stripe' }).",
    }),
  )
})
