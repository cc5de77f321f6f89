import {
  createRuntime,
  type HostPlan,
  planElements,
  type Runtime,
  type SparseAttention,
  uploadPlan,
} from '@sparse-attention/core'
import { assertAtRandom, guardedTensor, makeInputs, uploadTensor } from '@sparse-attention/testing'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { dense } from '../dense/method.js'
import { checkPlan, randomBlocks, randomClusters, randomStripes, shapeOf, type TestCall } from './test-plans.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const fuzz = inject('sparseAttentionFuzz') ?? { seed: 11 }
const timeout = 120_000 + 2000 * (fuzz.seconds ?? 0)

const headDim = 32
const calls = fc.record({
  dtype: fc.constant('f32' as const),
  queryLength: fc.integer({ min: 2, max: 150 }),
  keyLength: fc.integer({ min: 70, max: 300 }),
  headDim: fc.constant(headDim),
  batch: fc.integer({ min: 1, max: 2 }),
  layout: fc.constantFrom('BHLD' as const, 'BLHD' as const),
})
const blocks = fc.constantFrom(64, 128, 192)

/** A plan of every kind, of any geometry; causality is compiled in, so each kind has one. */
const kinds: Readonly<Record<string, fc.Arbitrary<{ c: TestCall; plan: HostPlan }>>> = {
  block: fc
    .record({ call: calls, blockQ: blocks, blockK: blocks, density: fc.double({ min: 0, max: 1, noNaN: true }) })
    .map((x) => {
      const c = { ...x.call, causal: true }
      return { c, plan: randomBlocks({ ...c, ...x }) }
    }),
  stripe: fc
    .record({ call: calls, heads: fc.constantFrom(1, 2, 4), blockQ: blocks, width: fc.integer({ min: 1, max: 40 }) })
    .map((x) => {
      const c = { ...x.call, causal: true }
      return { c, plan: randomStripes({ ...c, ...x }) }
    }),
  'variable-block': fc
    .record({
      call: calls,
      queryBlocks: fc.integer({ min: 1, max: 40 }),
      keyBlocks: fc.integer({ min: 1, max: 40 }),
      keyHeads: fc.constantFrom(1, 2, 4),
    })
    .map((x) => {
      const c = { ...x.call, causal: false }
      return { c, plan: randomClusters({ ...c, ...x }) }
    }),
}

/** Numbers that nobody put into a plan on purpose. */
const wild = fc.oneof(
  fc.constantFrom(-1, 0, 1, 63, 64, 2 ** 31 - 1, -(2 ** 31), 1 << 30, -64),
  fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
  fc.integer({ min: -400, max: 400 }),
)

describe('fuzz: plans from the host', () => {
  test.each(Object.entries(kinds))(
    '%s plans at random are attended over as they say',
    async (_, plans) => {
      const check = ({ c, plan }: { c: TestCall; plan: HostPlan }) =>
        checkPlan(runtime, c, plan, undefined, { trivial: true })
      await assertAtRandom(plans, check, fuzz, 4)
    },
    timeout,
  )

  test.each(Object.entries(kinds))(
    '%s plans of wild numbers end, read nothing outside of k and v and write nothing outside of out',
    async (kind, plans) => {
      const made = new Map<boolean, SparseAttention>()
      const check = async ([{ c, plan }, numbers]: [{ c: TestCall; plan: HostPlan }, readonly number[]]) => {
        const shape = shapeOf(c)
        const { batch, queryHeads, kvHeads, queryLength, keyLength } = shape
        const method = dense({ plan: kind as 'block' })
        const attention = made.get(c.causal) ?? (await runtime.use(method, { ...shape, ...c }))
        made.set(c.causal, attention)
        const inputs = makeInputs('gaussian', shape, c.dtype, 4)
        const keys = [batch, kvHeads, keyLength, headDim] as const
        const queries = [batch, queryHeads, queryLength, headDim] as const
        // Around them everything is NaN.
        using q = uploadTensor(runtime, c.dtype, queries, inputs.q, 'BLHD')
        using k = uploadTensor(runtime, c.dtype, keys, inputs.k, 'BLHD')
        using v = uploadTensor(runtime, c.dtype, keys, inputs.v, 'BLHD')
        using out = guardedTensor(runtime, c.dtype, queries, 'BLHD')
        using given = uploadPlan(runtime, withNumbers(plan, numbers), shape)
        const { lse } = await attention.run({ q, k, v, out }, { plan: given })
        const rows = await runtime.read(out)
        lse.buffer.destroy()
        expect(rows.every(Number.isFinite), 'what lies around k or v was read').toBe(true)
        expect(await out.damaged()).toBe(0)
      }
      const numbers = fc.array(wild, { minLength: 1, maxLength: 7 })
      try {
        await assertAtRandom(fc.tuple(plans, numbers), check, fuzz, 4)
      } finally {
        for (const attention of made.values()) attention.dispose()
      }
    },
    timeout,
  )
})

/** A plan's arrays, some entries replaced by wild numbers, again and again. */
function withNumbers(plan: HostPlan, numbers: readonly number[]): HostPlan {
  const fill = <T extends Int32Array | Uint32Array>(array: T): T =>
    array.map((x, i) => (i % 3 === 2 ? x : numbers[i % numbers.length]!)) as T
  return Object.fromEntries(
    Object.entries(plan).map(([name, value]) => [name, ArrayBuffer.isView(value) ? fill(value as Int32Array) : value]),
  ) as unknown as HostPlan
}

test('fuzz: a geometry that is none is refused before any work', () => {
  const c: TestCall = { dtype: 'f32', causal: true, queryLength: 70, keyLength: 130, headDim }
  const sizes = fc.oneof(wild, fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, 0.5, 1e300))
  const names = [
    'blockQ',
    'blockK',
    'batch',
    'queryHeads',
    'queryLength',
    'keyLength',
    'heads',
    'queryBlocks',
    'keyBlocks',
    'keyHeads',
  ]
  const plans = [
    randomBlocks({ ...c, blockQ: 64, blockK: 64, density: 0.5 }),
    randomStripes({ ...c, heads: 4, blockQ: 64, width: 16 }),
    randomClusters({ ...c, causal: false, queryBlocks: 3, keyBlocks: 4, keyHeads: 2 }),
  ]
  fc.assert(
    fc.property(fc.constantFrom(...plans), fc.constantFrom(...names), sizes, (plan, name, size) => {
      if (!(name in plan) || (plan as unknown as Record<string, number>)[name] === size) return
      const changed = { ...plan, [name]: size } as HostPlan
      try {
        using made = uploadPlan(runtime, changed, shapeOf(c))
        // Another geometry whose arrays are as long.
        expect(Object.values(planElements(changed as never)).every(Number.isSafeInteger)).toBe(true)
        expect(made.kind).toBe(plan.kind)
      } catch (error) {
        expect(error).toMatchObject({ name: 'SparseAttentionError' })
      }
    }),
    { seed: fuzz.seed, numRuns: 300 },
  )
})
