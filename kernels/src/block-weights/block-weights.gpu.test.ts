import { createRuntime, type Runtime } from '@sparse-attention/core'
import { createRandom, makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { testFrame } from '../shared/test-frame.js'
import { blockWeights } from './block-weights.js'
import { blockWeightsReference } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const lowest = -3.4028234663852886e38

interface Case {
  readonly stride: number
  readonly block: number
  readonly queryLength: number
  readonly keyLength: number
  readonly causal: boolean
  /** (largest, sum) of a cell; what a row does not see is overwritten with nonsense. */
  readonly statistic: (i: number) => readonly [number, number]
  /** Rows of a chunk; default all. */
  readonly most?: number
}

/** Weights of two heads, chunk by chunk, against float64; returns them [head][query block][key block]. */
async function check({ stride, block, queryLength, keyLength, causal, statistic, most }: Case): Promise<number[][][]> {
  const shape = { batch: 1, queryHeads: 2, kvHeads: 2, queryLength, keyLength, headDim: 8 }
  using frame = testFrame(runtime, shape, makeInputs('gaussian', shape, 'f32', 1), { dtype: 'f32', causal, scale: 1 })
  const rowsPerBlock = block / stride
  const [rows, keyBlocks] = [Math.ceil(queryLength / stride), Math.ceil(keyLength / block)]
  const blocks = Math.ceil(queryLength / block)
  const seen = (u: number) => {
    const lastKey = (u + 1) * stride - 1 + keyLength - queryLength
    return causal ? Math.max(0, Math.min(keyBlocks, Math.floor(lastKey / block) + 1)) : keyBlocks
  }
  const statistics = new Float32Array(2 * rows * keyBlocks * 2)
  for (let i = 0; i < statistics.length / 2; i++) {
    const visible = i % keyBlocks < seen(Math.floor(i / keyBlocks) % rows)
    statistics.set(visible ? statistic(i) : [1e30, 7], 2 * i)
  }
  const weights = frame.memory([2, blocks, keyBlocks])
  const record = await blockWeights(runtime, causal, stride, block)
  for (let firstRow = 0; firstRow < rows; firstRow += most ?? rows) {
    const chunk = { firstRow, rows: Math.min(most ?? rows, rows - firstRow), columns: 2 * keyBlocks }
    const part = [0, 1].flatMap((h) => [
      ...statistics.subarray(2 * (h * rows + firstRow) * keyBlocks, 2 * (h * rows + firstRow + chunk.rows) * keyBlocks),
    ])
    await frame.submit([record(frame.frame, chunk, frame.memory([part.length], Float32Array.from(part)), weights)])
  }
  const actual = await frame.floats(weights)
  return [0, 1].map((h) => {
    const own = statistics.subarray(2 * h * rows * keyBlocks)
    const expected = blockWeightsReference(own, { rows, keyBlocks, rowsPerBlock }, seen)
    return expected.map((row, a) => {
      const first = (h * blocks + a) * keyBlocks
      const found = [...actual.subarray(first, first + keyBlocks)]
      // Up to 32 weights of at most 1, each off by a few ulp of exp.
      found.forEach((weight, c) => {
        expect(Math.abs(weight - row[c]!), `head ${h}, block (${a}, ${c})`).toBeLessThanOrEqual(1e-5)
      })
      return found
    })
  })
}

const random = createRandom(3)
const gaussian = () => [random.gaussian() * 5, 1 + random.uniform() * 7] as const

describe('block weights', () => {
  test.each([
    { stride: 16, block: 64, queryLength: 300, keyLength: 9000, causal: false },
    { stride: 4, block: 128, queryLength: 300, keyLength: 700, causal: true },
    { stride: 8, block: 64, queryLength: 700, keyLength: 300, causal: true },
  ])('stride $stride, blocks of $block, $queryLength × $keyLength, causal $causal', async (shape) => {
    await check({ ...shape, statistic: gaussian })
  })

  test('chunk by chunk', async () => {
    await check({
      ...{ stride: 16, block: 128, queryLength: 500, keyLength: 600, causal: true, most: 8 },
      statistic: gaussian,
    })
  })

  test('huge scores do not overflow, and a row that sees nothing but NaN weighs nothing', async () => {
    const shape = { stride: 16, block: 64, queryLength: 64, keyLength: 640, causal: false }
    const huge = await check({ ...shape, statistic: (i) => [i % 2 === 0 ? 3e38 : -3e38, 2] })
    expect(huge[0]![0]!.filter((weight) => weight > 0)).toHaveLength(5)
    const empty = await check({ ...shape, statistic: (i) => (i < 20 ? [lowest, 0] : [1, 1]) })
    expect(empty[0]![0]!.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(2, 5) // of four rows
  })
})
