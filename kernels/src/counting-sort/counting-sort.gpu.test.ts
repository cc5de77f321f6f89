import { createRuntime, type Runtime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { firstDifference, testMemory } from '../shared/test-memory.js'
import { countingSort } from './counting-sort.js'
import { countingSortReference } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

/** Sorts segments of `key(segment, row)` and compares order and starts with the reference; returns the dispatches. */
async function check(
  { segments, length, bins }: { segments: number; length: number; bins: number },
  key: (segment: number, row: number) => number,
  on: Runtime = runtime,
): Promise<number> {
  using memory = testMemory(on)
  const keys = Uint32Array.from({ length: segments * length }, (_, i) => key(Math.floor(i / length), i % length))
  const order = memory.words(segments * length)
  const starts = memory.words(segments * (bins + 1))
  const record = await countingSort(on, bins)
  const dispatches = record(memory, { segments, length }, memory.words(keys), order, starts)
  await memory.submit(dispatches)
  const actual = { order: await memory.read(order), starts: await memory.read(starts) }
  for (let segment = 0; segment < segments; segment++) {
    const expected = countingSortReference(keys.subarray(segment * length, (segment + 1) * length), bins)
    const at = `segment ${segment}`
    expect(firstDifference(actual.order.subarray(segment * length), expected.order), at).toBe(-1)
    expect(firstDifference(actual.starts.subarray(segment * (bins + 1)), expected.starts), at).toBe(-1)
  }
  return dispatches.length
}

const random = createRandom(5)

describe('counting sort', () => {
  test.each([
    [1, 1, 1],
    [3, 255, 2],
    [2, 257, 7],
    [4, 1024, 64],
    [3, 1025, 100],
    [2, 3000, 256],
    [2, 3001, 257],
    [1, 9000, 4096],
    [1, 100, 4095],
  ])('%i segments of %i rows in %i bins', async (segments, length, bins) => {
    await check({ segments, length, bins }, () => random.integer(0, bins - 1))
  })

  test('all rows in one bin, falling keys, and bins that stay empty', async () => {
    await check({ segments: 2, length: 2500, bins: 9 }, (segment) => segment * 8)
    await check({ segments: 1, length: 2500, bins: 2500 }, (_, row) => 2499 - row)
    await check({ segments: 3, length: 700, bins: 300 }, (_, row) => (row % 5) * 60)
  })

  test('keys above the last bin count as the last', async () => {
    await check({ segments: 2, length: 600, bins: 10 }, (_, row) => (row % 3 === 0 ? 0xffffffff : row % 14))
  })

  test('cut into several dispatches', async () => {
    using cutting = await createRuntime({ device: runtime.device, work: { operationsPerDispatch: 2048 * 256 } })
    const key = () => random.integer(0, 19)
    const dispatches = await check({ segments: 3, length: 2100, bins: 20 }, key, cutting)
    expect(dispatches).toBe(1 + 1 + 5) // two tiles of 1024 rows a dispatch, nine in all
  })

  test('refuses what it cannot sort', async () => {
    using memory = testMemory(runtime)
    for (const bins of [0, 4097, 2.5]) {
      await expect(countingSort(runtime, bins)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', where: 'bins' })
    }
    const record = await countingSort(runtime, 4)
    const [keys, order, starts] = [memory.words(20), memory.words(20), memory.words(10)]
    const sort = (segments: number, length: number) => () => record(memory, { segments, length }, keys, order, starts)
    expect(sort(2, 10)).not.toThrow()
    expect(sort(2, 11)).toThrow(expect.objectContaining({ code: 'BUFFER_TOO_SMALL', where: 'keys' }))
    expect(sort(4, 5)).toThrow(expect.objectContaining({ code: 'BUFFER_TOO_SMALL', where: 'starts' }))
    expect(sort(2, 0)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', where: 'length' }))
    expect(sort(2 ** 20, 2 ** 20)).toThrow(expect.objectContaining({ code: 'LIMIT_EXCEEDED' }))
  })
})
