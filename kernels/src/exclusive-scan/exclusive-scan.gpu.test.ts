import { createRuntime, type Runtime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { firstDifference, testMemory } from '../shared/test-memory.js'
import { exclusiveScan } from './exclusive-scan.js'
import { exclusiveScanReference } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

/** Scans `length` numbers below `limit` that have a guard behind them. */
async function scan(on: Runtime, length: number, limit: number): Promise<number> {
  using memory = testMemory(on)
  const random = createRandom(length)
  const values = Uint32Array.from({ length: length + 1 }, () => Math.floor(random.uniform() * limit))
  const data = memory.words(values)
  const dispatches = (await exclusiveScan(on))(memory, data, length)
  await memory.submit(dispatches)
  const actual = await memory.read(data)
  expect(firstDifference(actual, exclusiveScanReference(values.subarray(0, length)))).toBe(-1)
  expect(actual[length], 'the element behind the last').toBe(values[length])
  return dispatches.length
}

describe('exclusive scan', () => {
  test.each([1, 2, 8, 9, 255, 2047, 2048, 2049, 8191, 8192, 8193, 12_288])('of %i elements', async (length) => {
    expect(await scan(runtime, length, 1000)).toBe(length <= 8192 ? 1 : 3)
  })

  test('of many blocks, wrapping at 2^32', async () => {
    await scan(runtime, 300_001, 2 ** 32)
  })

  test('cut into several dispatches', async () => {
    using cutting = await createRuntime({ device: runtime.device, work: { operationsPerDispatch: 3 * 2048 } })
    expect(await scan(cutting, 5 * 2048 + 1, 9)).toBe(2 + 1 + 6)
  })

  test('refuses an empty scan and memory that is too small', async () => {
    using memory = testMemory(runtime)
    const record = await exclusiveScan(runtime)
    const data = memory.words(new Uint32Array(4))
    expect(() => record(memory, data, 0)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
    expect(() => record(memory, data, 5)).toThrow(expect.objectContaining({ code: 'BUFFER_TOO_SMALL' }))
  })
})
