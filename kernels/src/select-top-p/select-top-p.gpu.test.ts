import { blockGrid, createRuntime, hasBlock, type Runtime } from '@sparse-attention/core'
import { createRandom, makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { forcedBlocks } from '../forced-blocks/forced-blocks.js'
import { forcedBlockReference } from '../forced-blocks/reference.js'
import { newBlockPlan } from '../shared/block-plan.js'
import { testFrame } from '../shared/test-frame.js'
import { selectTopPReference } from './reference.js'
import { selectTopP } from './select-top-p.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

/** Selects with one p a head and compares every row with the reference. Weights are exact multiples of 1/256. */
async function check(
  keyLength: number,
  causal: boolean,
  topP: number[],
  weight: (i: number) => number,
): Promise<number> {
  const shape = { batch: 1, queryHeads: topP.length, kvHeads: 1, queryLength: 200, keyLength, headDim: 8 }
  using frame = testFrame(runtime, shape, makeInputs('gaussian', shape, 'f32', 1), { dtype: 'f32', causal, scale: 1 })
  const sinkAndDiagonal = { sinkBlocks: causal ? 1 : 0, diagonal: causal }
  const [forced, select] = await Promise.all([
    forcedBlocks(runtime, causal, sinkAndDiagonal),
    selectTopP(runtime, causal),
  ])
  const plan = newBlockPlan(frame.frame, 64, 64)
  const { queryBlocks, keyBlocks } = blockGrid(plan)
  const weights = Float32Array.from({ length: topP.length * queryBlocks * keyBlocks }, (_, i) => weight(i))
  const layer = 1 // the table's first layer holds other numbers
  const table = frame.memory([2, topP.length], Float32Array.from([...topP.map(() => 0.123), ...topP]))
  await frame.submit([forced(plan), select(plan, frame.memory([weights.length], weights), table, layer)])
  const host = { ...plan, bitmap: await frame.words(plan.bitmap) }
  let kept = 0
  for (let h = 0; h < topP.length; h++) {
    for (let a = 0; a < queryBlocks; a++) {
      const lastKey = Math.min((a + 1) * 64, 200) - 1 + keyLength - 200
      const visible = causal ? Math.min(keyBlocks, Math.floor(lastKey / 64) + 1) : keyBlocks
      const first = (h * queryBlocks + a) * keyBlocks
      const isForced = Array.from({ length: visible }, (_, c) => forcedBlockReference(plan, a, c, sinkAndDiagonal))
      const expected = selectTopPReference(weights.subarray(first, first + visible), isForced, topP[h]!)
      const actual = expected.map((_, c) => hasBlock(host, 0, h, a, c))
      expect(actual, `head ${h}, row ${a}`).toEqual(expected)
      if (visible % 32 !== 0) expect(hasBlock(host, 0, h, a, visible)).toBe(false)
      kept += actual.filter(Boolean).length
    }
  }
  return kept
}

const random = createRandom(11)
const quantised = () => random.integer(0, 255) / 256

describe('top-p selection', () => {
  test('equals the sorted reference, one p a head', async () => {
    await check(1000, true, [0, 0.1, 0.5, 0.9, 0.99, 1], quantised)
    await check(900, false, [0, 0.3, 0.6, 0.95], quantised)
  })

  test('the worked example: forced first, then by weight while the sum before is below p', async () => {
    const row = [0.1, 0.3, 0.05, 0.25, 0.1, 0.2]
    const shape = { batch: 1, queryHeads: 3, kvHeads: 3, queryLength: 64, keyLength: 384, headDim: 8 }
    const config = { dtype: 'f32' as const, causal: true, scale: 1 }
    using frame = testFrame(runtime, shape, makeInputs('gaussian', shape, 'f32', 1), config)
    const forced = await forcedBlocks(runtime, true, { sinkBlocks: 1, diagonal: true })
    const select = await selectTopP(runtime, true)
    const plan = newBlockPlan(frame.frame, 64, 64)
    const weights = frame.memory([18], Float32Array.from([...row, ...row, ...row]))
    await frame.submit([forced(plan), select(plan, weights, frame.memory([3], Float32Array.of(0.8, 0.9, 0)), 0)])
    const [a, b, c] = await frame.words(plan.bitmap)
    expect([a, b, c]).toEqual([0b101011, 0b111011, 0b100001])
  })

  test('more than 64 words a row', async () => {
    await check(64 * 32 * 70, false, [0.4, 0.9], quantised)
  })

  test('ties go to the lower index, as many as fit', async () => {
    await check(3000, true, [0.25, 0.5, 0.75], () => 0.5)
    await check(3000, false, [0.25, 0.5, 0.75], (i) => (i % 3 === 0 ? 0.5 : 0.25))
  })

  test('NaN and negative numbers count as 0; rows without weight keep everything', async () => {
    await check(1000, false, [0.5], (i) => (i % 2 === 0 ? Number.NaN : quantised()))
    const kept = await check(1000, false, [0.5], () => 0)
    expect(kept).toBe(4 * 16)
  })

  test('one large weight is enough', async () => {
    const kept = await check(1000, false, [0.9], (i) => (i % 16 === 3 ? 256 : 1 / 256))
    expect(kept).toBe(4)
  })
})
