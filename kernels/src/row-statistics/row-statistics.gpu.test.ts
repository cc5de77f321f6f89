import { createRuntime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { expect, test } from 'vitest'
import { testMemory } from '../shared/test-memory.js'
import { rowStatisticsReference } from './reference.js'
import { rowStatistics } from './row-statistics.js'

const lowest = -3.4028234663852886e38

test('largest score and inverse sum of each row: short, long, huge, empty and with cells that do not count', async () => {
  using runtime = await createRuntime()
  const random = createRandom(2)
  const record = await rowStatistics(runtime)
  for (const columns of [1, 255, 1000]) {
    const rows = [
      Float32Array.from({ length: columns }, () => 5 * random.gaussian()),
      new Float32Array(columns).fill(lowest),
      Float32Array.from({ length: columns }, (_, c) => (c % 3 === 0 ? lowest : random.gaussian())),
      Float32Array.from({ length: columns }, (_, c) => (c % 2 === 0 ? 3e38 : -3e38)),
      new Float32Array(columns).fill(-7),
      Float32Array.from({ length: columns }, (_, c) => (c === columns - 1 ? 4 : lowest)),
    ]
    using memory = testMemory(runtime)
    const scores = memory.words(Float32Array.from(rows.flatMap((row) => [...row])))
    const statistics = memory.words(12)
    await memory.submit([record({ heads: 2, rows: 3, columns }, scores, statistics)])
    const actual = new Float32Array((await memory.read(statistics)).buffer)
    rows.forEach((row, r) => {
      const exact = Float64Array.from(row, (x) => (x === lowest ? Number.NEGATIVE_INFINITY : x))
      const { largest, inverse } = rowStatisticsReference(exact)
      expect(actual[2 * r], `row ${r} of ${columns}`).toBe(Math.max(largest, lowest))
      // exp may be off by a few ulp, and 1000 additions by 2^-24 of the sum each.
      expect(Math.abs(actual[2 * r + 1]! - inverse), `row ${r} of ${columns}`).toBeLessThanOrEqual(1e-5 * inverse)
    })
  }
  expect(() => record({ heads: 1, rows: 0, columns: 4 }, undefined as never, undefined as never)).toThrow(
    expect.objectContaining({ code: 'INVALID_ARGUMENT', where: 'rows' }),
  )
})
