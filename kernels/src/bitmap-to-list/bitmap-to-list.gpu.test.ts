import { createRuntime, type Runtime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { testMemory } from '../shared/test-memory.js'
import { bitmapToList } from './bitmap-to-list.js'
import { bitmapToListReference } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

test.each([
  [1, 1],
  [100, 100],
  [100, 7],
  [3000, 3000],
  [64 * 32 * 2 + 5, 900],
])('lists of rows of %i bits, capacity %i', async (length, capacity) => {
  const random = createRandom(length)
  const words = Math.ceil(length / 32)
  // Empty, full, one bit at the end, and random rows.
  const densities = [0, 1, -1, 0.02, 0.5, 0.9]
  const bitmap = new Uint32Array(6 * words)
  densities.forEach((density, row) => {
    for (let i = 0; i < length; i++) {
      const set = density < 0 ? i === length - 1 : random.uniform() < density
      if (set) bitmap[row * words + (i >> 5)]! |= 1 << (i & 31)
    }
  })
  using memory = testMemory(runtime)
  const [counts, indices] = [memory.words(6), memory.words(6 * capacity)]
  const record = await bitmapToList(runtime)
  await memory.submit([record({ heads: 2, rows: 3, length, capacity }, memory.words(bitmap), counts, indices)])
  const actualCounts = new Int32Array((await memory.read(counts)).buffer)
  const actual = new Int32Array((await memory.read(indices)).buffer)
  for (let row = 0; row < 6; row++) {
    const expected = bitmapToListReference(bitmap.subarray(row * words, (row + 1) * words), capacity)
    expect(actualCounts[row], `row ${row}`).toBe(expected.count)
    expect([...actual.subarray(row * capacity, (row + 1) * capacity)], `row ${row}`).toEqual(expected.indices)
  }
})

test('memory that is too short is refused', async () => {
  using memory = testMemory(runtime)
  const record = await bitmapToList(runtime)
  const shape = { heads: 1, rows: 2, length: 40, capacity: 8 }
  const [bitmap, counts, indices] = [memory.words(4), memory.words(4), memory.words(16)]
  expect(() => record({ ...shape, length: 65 }, bitmap, counts, indices)).toThrow(
    expect.objectContaining({ code: 'BUFFER_TOO_SMALL', where: 'bitmap' }),
  )
  expect(() => record({ ...shape, capacity: 9 }, bitmap, counts, indices)).toThrow(
    expect.objectContaining({ code: 'BUFFER_TOO_SMALL', where: 'indices' }),
  )
  expect(() => record({ ...shape, capacity: 0 }, bitmap, counts, indices)).toThrow(
    expect.objectContaining({ code: 'INVALID_ARGUMENT', where: 'capacity' }),
  )
})
