import type { AttentionShape, DType, Runtime } from '@sparse-attention/core'
import { makeInputs } from '@sparse-attention/testing'
import { expect } from 'vitest'
import { testFrame } from '../shared/test-frame.js'
import { antidiagonalStatistics } from './antidiagonal-statistics.js'
import { antidiagonalStatisticsReference } from './reference.js'

export interface StatisticsCase {
  readonly shape: AttentionShape
  readonly dtype: DType
  readonly stride: number
  readonly block: number
  readonly causal: boolean
  /** Element of k that is replaced, and by what. */
  readonly poison?: readonly [at: number, value: number]
  /** Rows of a chunk; default all. */
  readonly rows?: number
}

const scale = 0.125

/** Compares the statistics of every row and key block that it sees with float64; returns how many. */
export async function checkStatistics(
  runtime: Runtime,
  { shape, dtype, stride, block, causal, poison, rows: most }: StatisticsCase,
): Promise<number> {
  const inputs = makeInputs('gaussian', shape, dtype, 7)
  if (poison) inputs.k[poison[0]] = poison[1]
  using frame = testFrame(runtime, shape, inputs, { dtype, causal, scale })
  const rows = Math.ceil(shape.queryLength / stride)
  const keyBlocks = Math.ceil(shape.keyLength / block)
  const heads = shape.batch * shape.queryHeads
  const record = await antidiagonalStatistics(runtime, { ...shape, dtype, causal, scale }, stride, block)
  const expected = antidiagonalStatisticsReference(shape, inputs.q, inputs.k, { scale, causal, stride, block })
  let compared = 0
  for (let firstRow = 0; firstRow < rows; firstRow += most ?? rows) {
    const chunk = { firstRow, rows: Math.min(most ?? rows, rows - firstRow), columns: 2 * keyBlocks }
    const out = frame.memory([heads, chunk.rows, keyBlocks, 2])
    await frame.submit(record(frame.frame, chunk, out))
    const actual = await frame.floats(out)
    for (let h = 0; h < heads; h++) {
      for (let u = 0; u < chunk.rows; u++) {
        for (let c = 0; c < keyBlocks; c++) {
          const at = 2 * ((h * chunk.rows + u) * keyBlocks + c)
          const [largest, sum] = expected.subarray(2 * ((h * rows + firstRow + u) * keyBlocks + c))
          const name = `head ${h}, row ${firstRow + u}, block ${c}`
          if (largest === Number.NEGATIVE_INFINITY) {
            // Nothing is seen, which may not be written, or nothing but NaN, which weighs nothing.
            expect(actual[at + 1], name).toBe(0)
            continue
          }
          // Sums of stride·head_dim products of size about 1, scaled by 1/64: float32 rounds each to 1e-7 of it.
          expect(Math.abs(actual[at]! - Math.min(largest!, 3.4028234663852886e38)), name).toBeLessThanOrEqual(1e-5)
          // Each of up to 32 terms is off by what the scores are.
          expect(Math.abs(actual[at + 1]! - (Number.isNaN(sum!) ? 1 : sum!)), name).toBeLessThanOrEqual(32 * 1e-5)
          compared++
        }
      }
    }
  }
  return compared
}
