import { type AttentionShape, blockGrid, createRuntime, lastVisibleKey, type Runtime } from '@sparse-attention/core'
import { createRandom, makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newBlockPlan } from '../shared/block-plan.js'
import { testFrame } from '../shared/test-frame.js'
import { pooledScores } from './pooled-scores.js'
import { pooledScoresReference } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

/** Scores random means, all rows at once or in chunks of `rows`, and compares every visible cell. */
async function check(shape: AttentionShape, causal: boolean, rows?: number, poisoned = -1): Promise<number> {
  const { batch, queryHeads, kvHeads, headDim } = shape
  const scale = 0.125
  using frame = testFrame(runtime, shape, makeInputs('gaussian', shape, 'f32', 1), { dtype: 'f32', causal, scale })
  const record = await pooledScores(runtime, { headDim, causal })
  const plan = newBlockPlan(frame.frame, 64, 64)
  const { queryBlocks, keyBlocks } = blockGrid(plan)
  const random = createRandom(5)
  const gaussians = (count: number) => Float32Array.from({ length: count }, () => random.gaussian())
  const q = gaussians(batch * queryHeads * queryBlocks * headDim)
  const k = gaussians(batch * kvHeads * keyBlocks * headDim)
  if (poisoned >= 0) k[poisoned] = Number.NaN
  const qMeans = frame.memory([q.length], q)
  const kMeans = frame.memory([k.length], k)
  const expected = pooledScoresReference(q, k, shape, { queryBlocks, keyBlocks }, scale)
  let compared = 0
  for (let firstRow = 0; firstRow < queryBlocks; firstRow += rows ?? queryBlocks) {
    const chunk = { firstRow, rows: Math.min(rows ?? queryBlocks, queryBlocks - firstRow), columns: keyBlocks }
    const scores = frame.memory([batch * queryHeads, chunk.rows, keyBlocks])
    await frame.submit([record(frame.frame, plan, chunk, qMeans, kMeans, scores)])
    const actual = await frame.floats(scores)
    for (let head = 0; head < batch * queryHeads; head++) {
      for (let row = 0; row < chunk.rows; row++) {
        const a = firstRow + row
        const lastKey = lastVisibleKey(plan, Math.min((a + 1) * 64, shape.queryLength) - 1)
        for (let c = 0; c < keyBlocks && c * 64 <= lastKey; c++) {
          const score = actual[(head * chunk.rows + row) * keyBlocks + c]!
          const wanted = expected[(head * queryBlocks + a) * keyBlocks + c]!
          // Sums of head_dim products of size about 1, scaled by 1/8: float32 rounds each to 1e-7 of it.
          const close = Number.isNaN(wanted) ? Number.isNaN(score) : Math.abs(score - wanted) < 1e-5
          expect(close, `head ${head}, block (${a}, ${c}): ${score}, not ${wanted}`).toBe(true)
          compared++
        }
      }
    }
  }
  return compared
}

describe('pooled scores', () => {
  const grouped = { batch: 2, queryHeads: 4, kvHeads: 2, queryLength: 300, keyLength: 2500, headDim: 24 }

  test('equal the float64 products, grouped heads and ragged lengths', async () => {
    expect(await check(grouped, false)).toBe(2 * 4 * 5 * 40)
    expect(await check({ ...grouped, batch: 1, kvHeads: 1, headDim: 256 }, false)).toBe(4 * 5 * 40)
  })

  test('causal: every block with a visible pair is written', async () => {
    const square = { batch: 1, queryHeads: 2, kvHeads: 1, queryLength: 4200, keyLength: 4200, headDim: 16 }
    expect(await check(square, true)).toBe((2 * 66 * 67) / 2)
    expect(await check({ ...square, queryLength: 2500 }, true, 13)).toBeGreaterThan(0)
    expect(await check({ ...square, keyLength: 130 }, true)).toBeGreaterThan(0)
  })

  test('chunks of rows equal those rows of the whole', async () => {
    expect(await check({ ...grouped, queryLength: 2600 }, false, 9)).toBe(2 * 4 * 41 * 40)
  })

  test('NaN in one key block stays in its column', async () => {
    expect(await check(grouped, false, undefined, 7 * 24 + 3)).toBe(2 * 4 * 5 * 40)
  })
})
