import { createRuntime } from '@sparse-attention/core'
import { createRandom, makeInputs } from '@sparse-attention/testing'
import { expect, test } from 'vitest'
import { largestDifference, testFrame } from '../shared/test-frame.js'
import { blockSums } from './block-sums.js'
import { blockSumsReference } from './reference.js'

test('block sums, written chunk by chunk, equal the float64 sums of the whole', async () => {
  using runtime = await createRuntime()
  const shape = { batch: 2, queryHeads: 1, kvHeads: 1, queryLength: 300, keyLength: 9000, headDim: 8 }
  using frame = testFrame(runtime, shape, makeInputs('gaussian', shape, 'f32', 1), {
    dtype: 'f32',
    causal: false,
    scale: 1,
  })
  const [stride, block, rows, columns] = [16, 128, 19, 563]
  const random = createRandom(5)
  const values = Float32Array.from({ length: 2 * rows * columns }, () => random.uniform())
  const chunkOf = (firstRow: number, count: number) => {
    const part = [0, 1].flatMap((h) => [
      ...values.subarray((h * rows + firstRow) * columns, (h * rows + firstRow + count) * columns),
    ])
    return {
      chunk: { firstRow, rows: count, columns },
      scores: frame.memory([2, count, columns], Float32Array.from(part)),
    }
  }
  const sums = frame.memory([2, 3, 71])
  const record = await blockSums(runtime, stride, block)
  await frame.submit(
    [chunkOf(0, 8), chunkOf(8, 11)].map(({ chunk, scores }) => record(frame.frame, chunk, scores, sums)),
  )
  const expected = blockSumsReference(values, 2, rows, columns, block / stride)
  expect(expected.length).toBe(2 * 3 * 71)
  // 64 numbers up to 1, each addition rounded to 2^-24 of at most 64.
  expect(largestDifference(await frame.floats(sums), expected)).toBeLessThan(1e-4)
})
