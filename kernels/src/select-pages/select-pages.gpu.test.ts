import { createRuntime, type Runtime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { testMemory } from '../shared/test-memory.js'
import { testPageFrame, testPages } from '../shared/test-pages.js'
import { selectPagesReference } from './reference.js'
import { selectPages } from './select-pages.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const pageSize = 16

/** Lists of the pages of each row, from scores of rows [sequence][head][page]. */
async function select(lengths: readonly number[], scores: readonly number[][][], topK: number, sinks: number) {
  using memory = testMemory(runtime)
  const pages = testPages(memory, lengths, pageSize)
  const heads = scores[0]!.length
  const stride = Math.ceil(pages.width / 4) * 4
  // What lies past a sequence's pages must not be looked at.
  const flat = scores.flat().flatMap((row) => [...row, ...new Array<number>(stride - row.length).fill(1e30)])
  const rows = { heads, stride, scores: memory.words(Float32Array.from(flat)) }
  const frame = testPageFrame(memory, { batch: lengths.length, keyLength: Math.max(...lengths) })
  const { lists, dispatch } = (await selectPages(runtime, sinks))(frame, pages, rows, topK)
  await memory.submit([dispatch])
  const counts = new Int32Array((await memory.read(lists.counts)).buffer)
  const indices = new Int32Array((await memory.read(lists.indices)).buffer)
  return scores.flat().map((_, row) => {
    const list = Array.from(indices.subarray(row * lists.capacity, (row + 1) * lists.capacity))
    expect(list.slice(counts[row]!).every((first) => first === -1)).toBe(true)
    return list.slice(0, counts[row]!).map((first) => first / pageSize)
  })
}

describe('select pages', () => {
  const random = createRandom(5)
  const kinds: Record<string, (n: number) => number> = {
    gaussian: () => random.gaussian(),
    // Many ties, of both signs and zeros.
    small: () => random.integer(-2, 2),
    equal: () => 3,
    rare: (n) => [Number.NaN, Number.NEGATIVE_INFINITY, -0, 0, 1e38, Number.POSITIVE_INFINITY][n % 6]!,
  }
  test.each(Object.keys(kinds))('%s scores: each sequence by its own length, ties to the lower page', async (kind) => {
    const lengths = [1, 16, 17, 160, 161, 1000]
    const counts = lengths.map((length) => Math.ceil(length / pageSize))
    const scores = counts.map((count) =>
      [0, 1].map(() => Array.from({ length: count }, (_, n) => Math.fround(kinds[kind]!(n)))),
    )
    for (const [topK, sinks] of [
      [2, 1],
      [10, 1],
      [11, 0],
      [1, 0],
      [63, 4],
    ] as const) {
      expect(await select(lengths, scores, topK, sinks)).toEqual(
        scores.flat().map((row) => selectPagesReference(row, topK, sinks)),
      )
    }
  })

  test('more pages than a workgroup takes at a time', async () => {
    const row = Array.from({ length: 3001 }, () => Math.fround(random.gaussian()))
    const ties = row.map((x) => Math.round(x))
    const scores = [[row, ties]]
    const selected = await select([3000 * pageSize + 3], scores, 700, 1)
    expect(selected).toEqual([row, ties].map((one) => selectPagesReference(one, 700, 1)))
  })
})
