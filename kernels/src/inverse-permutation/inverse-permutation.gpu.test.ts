import { createRuntime, type Runtime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { randomPermutation, testMemory } from '../shared/test-memory.js'
import { inversePermutation } from './inverse-permutation.js'
import { inversePermutationReference } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

/** Inverts an order for each segment and compares with the reference. */
async function check(orders: readonly (readonly number[])[], length: number): Promise<void> {
  using memory = testMemory(runtime)
  const rows = orders[0]!.length
  const inverse = memory.words(new Uint32Array(orders.length * length).fill(0x7fc0dead))
  const record = await inversePermutation(runtime)
  const order = memory.words(Int32Array.from(orders.flat()))
  await memory.submit(record({ segments: orders.length, rows, length }, order, inverse))
  const expected = orders.flatMap((given) => inversePermutationReference(given, length))
  expect([...new Int32Array(await memory.read(inverse))]).toEqual(expected)
}

const random = createRandom(2)

describe('inverse permutation', () => {
  test.each([1, 2, 255, 1023, 1025, 3000])('of %i rows, in three segments', async (length) => {
    await check(
      [0, 1, 2].map(() => randomPermutation(random, length)),
      length,
    )
  })

  test('rows that an order leaves out get −1', async () => {
    await check(
      [
        [4, -1, 0],
        [-1, -1, -1],
        [1, 2, 3],
      ],
      5,
    )
    await check([[9, 2, 700, 1, -1, 12, 3]], 4) // numbers above the length are left out too
  })

  test('refuses memory that is too small', async () => {
    using memory = testMemory(runtime)
    const record = await inversePermutation(runtime)
    const shape = { segments: 2, rows: 4, length: 5 }
    const [order, inverse] = [memory.words(8), memory.words(9)]
    expect(() => record(shape, order, inverse)).toThrow(expect.objectContaining({ code: 'BUFFER_TOO_SMALL' }))
    expect(() => record({ ...shape, rows: 0 }, order, inverse)).toThrow(expect.objectContaining({ where: 'rows' }))
  })
})
