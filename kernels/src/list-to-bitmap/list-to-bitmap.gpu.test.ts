import { createRuntime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { expect, test } from 'vitest'
import { bitmapToList } from '../bitmap-to-list/bitmap-to-list.js'
import { testMemory } from '../shared/test-memory.js'
import { listToBitmap } from './list-to-bitmap.js'
import { listToBitmapReference } from './reference.js'

test('bits of lists: empty, full, and with entries outside of the row; and back again', async () => {
  using runtime = await createRuntime()
  const [toBitmap, toList] = await Promise.all([listToBitmap(runtime), bitmapToList(runtime)])
  const random = createRandom(8)
  for (const length of [5, 64, 5000]) {
    const all = Array.from({ length }, (_, i) => i)
    const rows = [
      [],
      all,
      all.filter(() => random.uniform() < 0.3),
      [length - 1],
      [-1, 0, 3, length, length + 40],
      [31, 32],
    ]
    const [words, capacity] = [Math.ceil(length / 32), length + 3]
    const shape = { heads: 3, rows: 2, length, capacity }
    using memory = testMemory(runtime)
    const counts = memory.words(Int32Array.from(rows, (row) => row.length))
    const indices = memory.words(
      Int32Array.from(rows.flatMap((row) => [...row, ...new Array<number>(capacity - row.length).fill(-1)])),
    )
    const bitmap = memory.words(new Uint32Array(6 * words).fill(0xdeadbeef))
    const [countsAgain, indicesAgain] = [memory.words(6), memory.words(6 * capacity)]
    await memory.submit([toBitmap(shape, counts, indices, bitmap), toList(shape, bitmap, countsAgain, indicesAgain)])
    const actual = await memory.read(bitmap)
    const expected = rows.map((row) => listToBitmapReference(row, length))
    expect([...actual]).toEqual(expected.flatMap((row) => [...row]))
    const inside = rows.map((row) => row.filter((i) => i >= 0 && i < length))
    expect([...new Int32Array((await memory.read(countsAgain)).buffer)]).toEqual(inside.map((row) => row.length))
    const again = new Int32Array((await memory.read(indicesAgain)).buffer)
    inside.forEach((row, r) => {
      expect([...again.subarray(r * capacity, r * capacity + row.length)]).toEqual(row)
    })
  }
})
