import { type BlockPlanData, createRuntime, type Runtime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type TestMemory, testMemory } from '../shared/test-memory.js'
import { unionOfGroupsReference } from './reference.js'
import { unionOfGroups, unionPlans } from './union-plans.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const random = createRandom(1)
const bits = (words: number) => Uint32Array.from({ length: words }, () => random.integer(0, 2 ** 32 - 1))

/** Two batch entries of six heads, 3 rows of 2 words each. */
const words = 2 * 6 * 3 * 2
const plan = (memory: TestMemory, bitmap: Uint32Array): BlockPlanData => ({
  kind: 'block',
  ...{ batch: 2, queryHeads: 6, queryLength: 150, keyLength: 2500, blockQ: 64, blockK: 64, causal: true },
  bitmap: memory.words(bitmap),
})

test('the union of two plans has the blocks of both', async () => {
  using memory = testMemory(runtime)
  const [a, b] = [bits(words), bits(words)]
  const [planA, planB] = [plan(memory, a), plan(memory, b)]
  const union = await unionPlans(runtime)
  await memory.submit([union(planA, planB)])
  expect(await memory.read(planA.bitmap)).toEqual(a.map((word, i) => word | b[i]!))
  expect(await memory.read(planB.bitmap)).toEqual(b)
  expect(() => union(planA, { ...planB, blockK: 128 })).toThrow(
    expect.objectContaining({ code: 'INVALID_SHAPE', where: 'blockK' }),
  )
})

test('a union of more words than one axis has workgroups of', async () => {
  using memory = testMemory(runtime)
  const many = 65535 * 64 + 3
  const large = (bitmap: Uint32Array): BlockPlanData => ({
    ...plan(memory, bitmap),
    ...{ batch: 1, queryHeads: 1, queryLength: 64 * many, keyLength: 64 },
  })
  const [a, b] = [new Uint32Array(many), new Uint32Array(many).fill(5, many - 70)]
  const [planA, planB] = [large(a), large(b)]
  const union = await unionPlans(runtime)
  await memory.submit([union(planA, planB)])
  const last = (await memory.read(planA.bitmap)).subarray(many - 72)
  expect([...last]).toEqual([0, 0, ...new Array<number>(70).fill(5)])
})

test.each([1, 2, 3, 6])('the union over groups, with %i KV heads: shared, and for each query head', async (kvHeads) => {
  using memory = testMemory(runtime)
  const given = bits(words)
  const expected = unionOfGroupsReference(given, 6, 6 / kvHeads)
  const [each, shared] = await Promise.all([unionOfGroups(runtime), unionOfGroups(runtime, { shared: true })])
  const [perHead, perGroup] = [memory.words(words), memory.words(expected.length)]
  await memory.submit([each(plan(memory, given), kvHeads, perHead), shared(plan(memory, given), kvHeads, perGroup)])
  expect(await memory.read(perGroup)).toEqual(expected)
  const repeated = Uint32Array.from(
    { length: words },
    (_, i) =>
      expected[Math.floor(i / 36) * 6 * kvHeads + Math.floor(Math.floor((i % 36) / 6) / (6 / kvHeads)) * 6 + (i % 6)]!,
  )
  expect(await memory.read(perHead)).toEqual(repeated)
})

test('a plan united with itself is refused', async () => {
  using memory = testMemory(runtime)
  const [union, groups] = await Promise.all([unionPlans(runtime), unionOfGroups(runtime)])
  const given = plan(memory, bits(words))
  expect(() => union(given, given)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', where: 'other' }))
  const inPlace = expect.objectContaining({ code: 'INVALID_ARGUMENT', where: 'unions' })
  expect(() => groups(given, 2, given.bitmap)).toThrow(inPlace)
})

test('KV heads that do not divide the query heads, and memory that is too short, are refused', async () => {
  using memory = testMemory(runtime)
  const union = await unionOfGroups(runtime)
  const given = plan(memory, bits(words))
  expect(() => union(given, 4, memory.words(words))).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  expect(() => union(given, 3, memory.words(words - 4))).toThrow(expect.objectContaining({ code: 'BUFFER_TOO_SMALL' }))
})
