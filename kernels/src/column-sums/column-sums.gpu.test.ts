import { createRuntime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { expect, test } from 'vitest'
import { rowStatistics } from '../row-statistics/row-statistics.js'
import { largestDifference } from '../shared/test-frame.js'
import { testMemory } from '../shared/test-memory.js'
import { columnSums } from './column-sums.js'
import { columnSumsReference } from './reference.js'

const lowest = -3.4028234663852886e38

test('column sums, written range of heads by range, equal float64; each head adds up to its rows', async () => {
  using runtime = await createRuntime()
  const [heads, rows, columns] = [3, 5, 300]
  const random = createRandom(6)
  const scores = Float32Array.from({ length: heads * rows * columns }, (_, i) =>
    i % 7 === 0 || Math.floor(i / columns) === 11 ? lowest : 3 * random.gaussian(),
  )
  const [statistics, sum] = await Promise.all([rowStatistics(runtime), columnSums(runtime)])
  using memory = testMemory(runtime)
  const sums = memory.words(heads * columns)
  const dispatches = [
    { first: 0, count: 2 },
    { first: 2, count: 1 },
  ].flatMap((range) => {
    const first = range.first * rows * columns
    const part = memory.words(scores.subarray(first, first + range.count * rows * columns))
    const stats = memory.words(range.count * rows * 2)
    return [
      statistics({ heads: range.count, rows, columns }, part, stats),
      sum(range, { rows, columns }, part, stats, sums),
    ]
  })
  await memory.submit(dispatches)
  const actual = new Float32Array((await memory.read(sums)).buffer)
  const exact = Float64Array.from(scores, (x) => (x === lowest ? Number.NEGATIVE_INFINITY : x))
  // Sums of five weights of at most 1, each off by a few ulp.
  expect(largestDifference(actual, columnSumsReference(exact, rows, columns))).toBeLessThan(1e-5)
  const totals = [0, 1, 2].map((h) => actual.subarray(h * columns, (h + 1) * columns).reduce((a, b) => a + b))
  for (const [h, total] of [5, 5, 4].entries()) expect(totals[h]).toBeCloseTo(total, 4) // row 11 weighs nothing
  expect(() => sum({ first: 1, count: 3 }, { rows, columns }, sums, sums, sums)).toThrow(
    expect.objectContaining({ code: 'BUFFER_TOO_SMALL', where: 'scores' }),
  )
})
