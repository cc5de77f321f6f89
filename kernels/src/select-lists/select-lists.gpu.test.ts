import { createRuntime, type Runtime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { testMemory } from '../shared/test-memory.js'
import { selectListsReference } from './reference.js'
import { type SelectLists, selectLists } from './select-lists.js'

let runtime: Runtime
let select: SelectLists
beforeAll(async () => {
  runtime = await createRuntime()
  select = await selectLists(runtime)
})
afterAll(() => runtime.dispose())

interface Choice {
  readonly forced?: number
  /** One k, or one for each of three heads. */
  readonly topK: number | readonly number[]
  /** Of all heads, [3, length]. */
  readonly scores: Float32Array
}

/** Selects one or two lists of three heads and compares every entry with the sorted reference. */
async function check(length: number, choices: readonly Choice[]): Promise<void> {
  using memory = testMemory(runtime)
  const { lists, dispatch } = select(
    memory,
    { heads: 3, length },
    choices.map(({ topK, scores, ...rest }) => ({
      ...rest,
      scores: memory.words(scores),
      topK:
        typeof topK === 'number'
          ? topK
          : { values: memory.words(Float32Array.of(99, ...topK)), first: 1, heads: 3, most: Math.max(...topK) },
    })),
  )
  await memory.submit([dispatch])
  for (const [n, { topK, forced = 0, scores }] of choices.entries()) {
    const { capacity, counts, indices } = lists[n]!
    const numbers = new Int32Array((await memory.read(counts)).buffer)
    const entries = new Int32Array((await memory.read(indices)).buffer)
    for (let h = 0; h < 3; h++) {
      const k = typeof topK === 'number' ? topK : Math.floor(topK[h]!)
      const expected = selectListsReference(scores.subarray(h * length, (h + 1) * length), k, forced)
      expect(numbers[h], `list ${n}, head ${h}, k ${k}`).toBe(expected.length)
      expect([...entries.subarray(h * capacity, (h + 1) * capacity)], `list ${n}, head ${h}, k ${k}`).toEqual([
        ...expected,
        ...new Array<number>(capacity - expected.length).fill(-1),
      ])
    }
  }
}

const random = createRandom(4)
/** Small integers, so that there are ties, and some NaN. */
const scoresOf = (length: number) =>
  Float32Array.from({ length: 3 * length }, (_, i) => (i % 50 === 7 ? Number.NaN : random.integer(-100, 100)))

test('one k, a k for each head, forced entries beyond k, all, none', async () => {
  const scores = scoresOf(500)
  for (const choice of [
    { topK: 1 },
    { topK: 0 },
    { forced: 30, topK: 100 },
    { forced: 30, topK: 10 },
    { forced: 3, topK: 500 },
    { forced: 3, topK: 4194304 },
    { forced: 5, topK: [2, 40.5, 600] },
    { topK: [1, 0, 9] },
  ])
    await check(500, [{ ...choice, scores }])
})

test('two lists at once, each with scores, sizes and forced entries of its own', async () => {
  await check(300, [
    { forced: 4, topK: 20, scores: scoresOf(300) },
    { topK: [3, 300, 7], scores: scoresOf(300) },
  ])
})

test('more entries than a workgroup has on the way at once, and ties among all of them', async () => {
  // Weights of a softmax: most share their first digits, a third are equal.
  const weights = Float32Array.from({ length: 15000 }, (_, i) => (i % 3 === 0 ? 0.25 : Math.exp(random.gaussian() - 3)))
  await check(5000, [
    { forced: 30, topK: 700, scores: weights },
    { forced: 2100, topK: 2200, scores: new Float32Array(15000).fill(-0.5) },
  ])
  const signs = Float32Array.from(
    { length: 6000 },
    (_, i) => [0, -0, Number.POSITIVE_INFINITY, -3e38, Number.NaN][i % 5]!,
  )
  await check(2000, [{ topK: 1000, scores: signs }])
})

test('more than two lists, and memory that is too small, are refused', () => {
  using memory = testMemory(runtime)
  const choice = { scores: memory.words(10), topK: 3 }
  const refusal = (code: string, where: string) => expect.objectContaining({ code, where })
  expect(() => select(memory, { heads: 1, length: 10 }, [choice, choice, choice])).toThrow(
    refusal('INVALID_ARGUMENT', 'choices'),
  )
  expect(() => select(memory, { heads: 2, length: 10 }, [choice])).toThrow(refusal('BUFFER_TOO_SMALL', 'scores'))
})
