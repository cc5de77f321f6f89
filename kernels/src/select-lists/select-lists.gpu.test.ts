import { createRuntime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { expect, test } from 'vitest'
import { testMemory } from '../shared/test-memory.js'
import { selectListsReference } from './reference.js'
import { selectLists } from './select-lists.js'

test('lists of each head equal the sorted reference: one k, a k for each head, forced entries beyond k, all', async () => {
  using runtime = await createRuntime()
  const random = createRandom(4)
  const shape = { heads: 3, length: 500 }
  const scores = Float32Array.from({ length: 1500 }, (_, i) => (i % 50 === 7 ? Number.NaN : random.integer(0, 200)))
  const cases = [
    { forced: 0, topK: 1 },
    { forced: 30, topK: 100 },
    { forced: 30, topK: 10 },
    { forced: 3, topK: 500 },
    { forced: 3, topK: 4194304 },
    { forced: 5, topK: [2, 40.5, 600] },
    { forced: 0, topK: [1, 1, 9] },
  ]
  for (const { forced, topK } of cases) {
    const perHead = typeof topK !== 'number'
    using memory = testMemory(runtime)
    const select = await selectLists(runtime, { forced, perHead })
    const table = perHead ? { values: memory.words(Float32Array.from(topK)), first: 0, heads: 3 } : topK
    const most = perHead ? Math.max(...topK) : undefined
    const { lists, dispatches } = select(memory, shape, memory.words(scores), table, most)
    await memory.submit(dispatches)
    const counts = new Int32Array((await memory.read(lists.counts)).buffer)
    const indices = new Int32Array((await memory.read(lists.indices)).buffer)
    for (let h = 0; h < 3; h++) {
      const k = perHead ? Math.floor(topK[h]!) : topK
      const expected = selectListsReference(scores.subarray(h * 500, (h + 1) * 500), k, forced)
      const row = [...indices.subarray(h * lists.capacity, (h + 1) * lists.capacity)]
      expect(counts[h], `head ${h}, k ${k}`).toBe(expected.length)
      expect(row, `head ${h}, k ${k}`).toEqual([
        ...expected,
        ...new Array<number>(lists.capacity - expected.length).fill(-1),
      ])
    }
  }
})
