import { blockGrid, createRuntime, hasBlock, type Runtime } from '@sparse-attention/core'
import { createRandom, makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { forcedBlocks } from '../forced-blocks/forced-blocks.js'
import { forcedBlockReference } from '../forced-blocks/reference.js'
import { newBlockPlan } from '../shared/block-plan.js'
import { testFrame } from '../shared/test-frame.js'
import { selectTopKReference } from './reference.js'
import { selectTopK } from './select-top-k.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

interface Selection {
  readonly keyLength: number
  readonly causal: boolean
  readonly topK: number
  readonly score: (i: number) => number
  /** Rows of blocks selected in at once; all four by default. */
  readonly rows?: number
}

/** Selects for three heads and four query blocks and compares every row with the reference; returns blocks per row. */
async function check({ keyLength, causal, topK, score, rows = 4 }: Selection): Promise<number[]> {
  const shape = { batch: 1, queryHeads: 3, kvHeads: 1, queryLength: 200, keyLength, headDim: 8 }
  using frame = testFrame(runtime, shape, makeInputs('gaussian', shape, 'f32', 1), { dtype: 'f32', causal, scale: 1 })
  const sinkAndDiagonal = { sinkBlocks: causal ? 1 : 0, diagonal: causal }
  const [forced, select] = await Promise.all([
    forcedBlocks(runtime, causal, sinkAndDiagonal),
    selectTopK(runtime, causal),
  ])
  const plan = newBlockPlan(frame.frame, 64, 64)
  const { queryBlocks, keyBlocks, wordsPerRow } = blockGrid(plan)
  const scores = Float32Array.from({ length: 3 * queryBlocks * keyBlocks }, (_, i) => score(i))
  const dispatches = [forced(plan)]
  for (let firstRow = 0; firstRow < queryBlocks; firstRow += rows) {
    const chunk = { firstRow, rows: Math.min(rows, queryBlocks - firstRow), columns: keyBlocks }
    const part = [0, 1, 2].flatMap((h) => {
      const first = (h * queryBlocks + firstRow) * keyBlocks
      return [...scores.subarray(first, first + chunk.rows * keyBlocks)]
    })
    dispatches.push(select(plan, chunk, frame.memory([part.length], Float32Array.from(part)), topK))
  }
  await frame.submit(dispatches)
  const host = { ...plan, bitmap: await frame.words(plan.bitmap) }
  const counts: number[] = []
  for (let h = 0; h < 3; h++) {
    for (let a = 0; a < queryBlocks; a++) {
      const lastKey = Math.min((a + 1) * 64, 200) - 1 + keyLength - 200
      const visible = causal ? Math.max(0, Math.min(keyBlocks, Math.floor(lastKey / 64) + 1)) : keyBlocks
      const first = (h * queryBlocks + a) * keyBlocks
      const isForced = Array.from({ length: visible }, (_, c) => forcedBlockReference(plan, a, c, sinkAndDiagonal))
      const expected = selectTopKReference(scores.subarray(first, first + visible), isForced, topK)
      const actual = Array.from({ length: wordsPerRow * 32 }, (_, c) => hasBlock(host, 0, h, a, c))
      expect(actual.slice(0, visible), `head ${h}, row ${a}`).toEqual(expected)
      expect(actual.indexOf(true, visible), `head ${h}, row ${a}: past the last visible block`).toBe(-1)
      counts.push(actual.filter(Boolean).length)
    }
  }
  return counts
}

const random = createRandom(11)
const gaussian = () => random.gaussian()

describe('top-k selection', () => {
  test.each([1, 2, 3, 5, 12, 16, 100])('k = %i equals the sorted reference, scores of both signs', async (topK) => {
    const causal = await check({ keyLength: 1000, causal: true, topK, score: gaussian })
    const visible = [14, 15, 16, 16] // 1000 − 200 = 12.5 blocks before the first query, so diagonals are two blocks
    expect(causal.slice(0, 4)).toEqual(visible.map((n, a) => Math.max(Math.min(topK, n), a === 3 ? 2 : 3)))
    const full = await check({ keyLength: 900, causal: false, topK, score: gaussian })
    expect(new Set(full)).toEqual(new Set([Math.min(topK, 15)]))
  })

  test('more than 64 words a row, in chunks of rows', async () => {
    const counts = await check({ keyLength: 64 * 32 * 70, causal: false, topK: 700, score: gaussian, rows: 3 })
    expect(new Set(counts)).toEqual(new Set([700]))
    await check({ keyLength: 64 * 32 * 70, causal: true, topK: 9, score: gaussian, rows: 1 })
  })

  test('ties go to the lower index, as many as fit, and −0 ties with 0', async () => {
    for (const topK of [4, 7]) {
      await check({ keyLength: 3000, causal: true, topK, score: () => -0.5 })
      await check({ keyLength: 3000, causal: false, topK, score: (i) => (i % 9 === 0 ? 0.5 : -0.25) })
      await check({ keyLength: 3000, causal: false, topK, score: (i) => (i % 3 === 0 ? 0 : -0) })
    }
  })

  test('NaN ranks lowest, below every finite number; infinities rank as they should', async () => {
    const some = (i: number) => [Number.NaN, -3e38, 1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY][i % 5]!
    for (const topK of [2, 6, 8, 14]) await check({ keyLength: 1000, causal: false, topK, score: some })
    await check({ keyLength: 1000, causal: true, topK: 5, score: () => Number.NaN })
  })

  test('rows that see nothing stay empty', async () => {
    const counts = await check({ keyLength: 70, causal: true, topK: 1, score: gaussian })
    expect(counts.slice(0, 4)).toEqual([0, 0, 1, 2])
  })
})
