import { createRuntime, type Runtime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { rowStatistics } from '../row-statistics/row-statistics.js'
import { largestDifference } from '../shared/test-frame.js'
import { testMemory } from '../shared/test-memory.js'
import { diagonalSums } from './diagonal-sums.js'
import { diagonalSumsReference } from './reference.js'

const lowest = -3.4028234663852886e38

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

/** Sums random scores of two heads, causal or not, and compares with float64. Returns sums [2, keyLength]. */
async function check(queryLength: number, keyLength: number, rows: readonly number[] | number, causal: boolean) {
  const random = createRandom(queryLength + keyLength)
  const given = typeof rows !== 'number'
  const list = given ? rows : Array.from({ length: rows }, (_, r) => queryLength - rows + r)
  const positions = list.map((row) => row + keyLength - queryLength)
  const seen = (r: number, j: number) => list[r]! >= 0 && list[r]! < queryLength && (!causal || j <= positions[r]!)
  const scores = Float32Array.from({ length: 2 * list.length * keyLength }, (_, i) =>
    seen(Math.floor(i / keyLength) % list.length, i % keyLength) ? 3 * random.gaussian() : lowest,
  )
  const [statistics, sum] = await Promise.all([rowStatistics(runtime), diagonalSums(runtime, given ? 'given' : 'last')])
  using memory = testMemory(runtime)
  const [cells, stats, sums] = [memory.words(scores), memory.words(4 * list.length), memory.words(3 * keyLength)]
  const sampled = given ? { count: list.length, indices: memory.words(Int32Array.from(list)) } : { count: list.length }
  const shape = { heads: 2, rows: list.length, columns: keyLength }
  const heads = { first: 1, count: 2 } // the sums of a head before them are left alone
  await memory.submit([
    statistics(shape, cells, stats),
    sum({ queryLength, keyLength }, sampled, heads, cells, stats, sums),
  ])
  const actual = new Float32Array((await memory.read(sums)).buffer)
  expect(actual.subarray(0, keyLength).every((x) => x === 0)).toBe(true)
  const exact = Float64Array.from(scores, (x) => (x === lowest ? Number.NEGATIVE_INFINITY : x))
  const expected = diagonalSumsReference(exact, positions, keyLength)
  // Sums of at most 64 weights of at most 1, each off by a few ulp.
  expect(largestDifference(actual.subarray(keyLength), expected)).toBeLessThan(1e-5)
  return actual.subarray(keyLength)
}

test('diagonal sums of the last rows equal float64, and add up to the number of rows under causality', async () => {
  const sums = await check(100, 300, 64, true)
  for (const h of [0, 1]) {
    expect(sums.subarray(h * 300, (h + 1) * 300).reduce((a, b) => a + b)).toBeCloseTo(64, 3)
  }
  await check(100, 300, 64, false)
  await check(100, 70, 50, true)
})

test('diagonal sums of listed rows, one of them outside of the queries', async () => {
  await check(100, 130, [99, 3, 3, 0, -1, 40, 100], true)
})

test('an offset that every row points to holds all the weight', async () => {
  const keyLength = 200
  const scores = new Float32Array(8 * keyLength).fill(-50)
  for (let r = 0; r < 8; r++) scores[r * keyLength + (192 + r - 77)] = 50
  const [statistics, sum] = await Promise.all([rowStatistics(runtime), diagonalSums(runtime, 'last')])
  using memory = testMemory(runtime)
  const [cells, stats, sums] = [memory.words(scores), memory.words(16), memory.words(keyLength)]
  const heads = { first: 0, count: 1 }
  await memory.submit([
    statistics({ heads: 1, rows: 8, columns: keyLength }, cells, stats),
    sum({ queryLength: 200, keyLength }, { count: 8 }, heads, cells, stats, sums),
  ])
  const actual = new Float32Array((await memory.read(sums)).buffer)
  expect(actual[77]).toBe(8)
  expect(actual.filter((x) => x > 1e-6).length).toBe(1)
})
