import { createRuntime, type Runtime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { firstDifference, testMemory } from '../shared/test-memory.js'
import { radixSort } from './radix-sort.js'
import { radixSortReference, sortOrderReference } from './reference.js'
import { sortKeys } from './sort-keys.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

/** Sorts segments of keys with their indices, and again in place with values, and compares both with the reference. */
async function check(segments: number, length: number, key: (i: number) => number): Promise<void> {
  using memory = testMemory(runtime)
  const rows = { segments, length }
  const host = Uint32Array.from({ length: segments * length }, (_, i) => key(i))
  const record = await radixSort(runtime)
  const [sortedKeys, order] = [memory.words(host.length), memory.words(host.length)]
  await memory.submit(record(memory, rows, memory.words(host), 'indices', sortedKeys, order))
  const [keys, values] = [memory.words(host), memory.words(Int32Array.from(host, (_, i) => -i))]
  await memory.submit(record(memory, rows, keys, values, keys, values))

  const [actualKeys, actualOrder] = [await memory.read(sortedKeys), await memory.read(order)]
  const [keysInPlace, valuesInPlace] = [await memory.read(keys), new Int32Array(await memory.read(values))]
  for (let first = 0; first < host.length; first += length) {
    const here = host.subarray(first, first + length)
    const expected = radixSortReference(here)
    const sorted = expected.map((i) => here[i]!)
    const at = `segment ${first / length}`
    expect(firstDifference(actualOrder.subarray(first), expected), at).toBe(-1)
    expect(firstDifference(actualKeys.subarray(first), sorted), at).toBe(-1)
    expect(firstDifference(keysInPlace.subarray(first), sorted), at).toBe(-1)
    const carried = expected.map((i) => 0 - (first + i))
    expect(firstDifference(valuesInPlace.subarray(first), carried), at).toBe(-1)
  }
}

const random = createRandom(9)

describe('radix sort', () => {
  test.each([
    [1, 1],
    [5, 2],
    [3, 256],
    [4, 1000],
    [3, 1025],
    [2, 3333],
    [1, 9000],
  ])('%i segments of %i keys of 32 bits', async (segments, length) => {
    await check(segments, length, () => Math.floor(random.uniform() * 2 ** 32))
  })

  test('ties keep their order, and every digit counts', async () => {
    await check(3, 1100, (i) => i % 3)
    await check(2, 700, () => 0xffffffff)
    await check(1, 1500, (i) => (i * 0x01010101) >>> 0)
    await check(1, 1500, (i) => 1500 - i)
  })

  test('refuses memory that is too small', async () => {
    using memory = testMemory(runtime)
    const record = await radixSort(runtime)
    const [enough, short] = [memory.words(6), memory.words(5)]
    const sort = () => record(memory, { segments: 2, length: 3 }, enough, short, enough, enough)
    expect(sort).toThrow(expect.objectContaining({ code: 'BUFFER_TOO_SMALL', where: 'values' }))
  })
})

describe('sort keys', () => {
  const tricky = [0, -0, 1, -1, 1e-45, -1e-45, 3.4e38, -3.4e38, Number.NaN, Number.POSITIVE_INFINITY]
  const numbers = [
    ...tricky,
    Number.NEGATIVE_INFINITY,
    ...tricky,
    0.5,
    -0.5,
    ...Array.from({ length: 2000 }, random.gaussian),
  ]

  test.each(['ascending', 'descending'] as const)('order floating-point numbers, %s', async (direction) => {
    using memory = testMemory(runtime)
    const scores = Float32Array.from(numbers)
    const [keys, order] = [memory.words(scores.length), memory.words(scores.length)]
    const [toKeys, sort] = await Promise.all([sortKeys(runtime), radixSort(runtime)])
    await memory.submit([
      ...toKeys(scores.length, memory.words(scores), keys, direction),
      ...sort(memory, { segments: 1, length: scores.length }, keys, 'indices', keys, order),
    ])
    expect(firstDifference(await memory.read(order), sortOrderReference(scores, direction))).toBe(-1)
  })
})
