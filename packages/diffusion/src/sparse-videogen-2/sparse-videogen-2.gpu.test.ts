import {
  type AttentionState,
  countPairs,
  createRuntime,
  type HostPermutedPlan,
  type HostVariableBlockPlan,
  type OwnedTensor,
  type Runtime,
  type SparseAttention,
} from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { sampleRows } from '../first-rows.js'
import { type SparseVideogen2Options, sparseVideogen2 } from './method.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const [headDim, length] = [16, 120]
const config = { queryHeads: 1, headDim, dtype: 'f32', causal: false } as const
const random = createRandom(41)

/** Tokens of six kinds in turn: of each a centre, and a little noise. */
const kinds = 6
const centres = Array.from({ length: kinds }, () => Array.from({ length: headDim }, () => 3 * random.gaussian()))
const planted = () =>
  Float32Array.from({ length: length * headDim }, (_, i) => {
    return centres[Math.floor(i / headDim) % kinds]![i % headDim]! + 0.1 * random.gaussian()
  })
const values = Float32Array.from({ length: length * headDim }, random.gaussian)

interface Call {
  readonly q?: Float32Array
  readonly k?: Float32Array
  readonly grid?: number[]
  readonly step?: number
  readonly layer?: number
  readonly state?: AttentionState
}

const first = planted()

async function call(attention: SparseAttention, { q = first, k = first, state, ...context }: Call = {}) {
  const owned: OwnedTensor[] = [q, k, values].map((x) => runtime.tensor('f32', [1, 1, length, headDim], x))
  const [queries, keys, v] = owned as [OwnedTensor, OwnedTensor, OwnedTensor]
  const result = await attention.run({ q: queries, k: keys, v, ...(state && { state }), context })
  const plan = (await result.plan.read()) as HostPermutedPlan & HostVariableBlockPlan
  const answer = { plan, path: result.plan.path, out: await runtime.read(result.out), mask: await result.plan.toMask() }
  for (const tensor of [...owned, result.out, result.lse]) tensor.buffer.destroy()
  return answer
}

/** Sizes of the clusters of queries that hold any, sorted. */
const sizesOf = ({ queryStarts }: HostVariableBlockPlan) =>
  [...queryStarts.slice(1)].map((end, a) => end - queryStarts[a]!).filter((size) => size > 0)

const use = (options: Partial<SparseVideogen2Options>) => runtime.use(sparseVideogen2(options), config)

describe('sparse-videogen-2', () => {
  test('tokens of a kind come together, and see those of their kind first', async () => {
    using attention = await use({ queryClusters: 30, keyClusters: 30, topP: 0.5, minKeepRatio: 0 })
    const { plan, mask } = await call(attention)
    // A cluster may be a part of a kind, never of two.
    const { queries } = plan.permutation
    for (let a = 0; a < 30; a++) {
      const tokens = queries.slice(plan.queryStarts[a], plan.queryStarts[a + 1])
      expect(new Set(tokens.map((token) => token % kinds)).size).toBeLessThanOrEqual(1)
      expect([...tokens]).toEqual([...tokens].sort((x, y) => x - y)) // stable
    }
    for (let row = 0; row < length; row++) {
      const kept = [...mask.subarray(row * length, (row + 1) * length).keys()].filter((key) => mask[row * length + key])
      expect(kept.length).toBeGreaterThan(0)
      expect(kept.every((key) => key % kinds === row % kinds)).toBe(true)
    }
  })

  test('a key for each cluster is top-p of tokens; queries of one cluster see the same ones', async () => {
    using attention = await use({
      queryClusters: 1,
      keyClusters: length,
      topP: 0.7,
      minKeepRatio: 0,
      initialIterations: 1,
    })
    const k = Float32Array.from({ length: length * headDim }, random.gaussian)
    const { mask, plan } = await call(attention, { k })
    expect(plan.queryStarts).toEqual(Int32Array.of(0, length))
    const mean = Array.from({ length: headDim }, (_, d) => {
      return first.reduce((sum, x, i) => sum + (i % headDim === d ? x / length : 0), 0)
    })
    const weights = Array.from({ length }, (_, key) =>
      Math.exp(mean.reduce((sum, x, d) => sum + x * k[key * headDim + d]!, 0) / 4),
    )
    const total = weights.reduce((sum, x) => sum + x, 0)
    let before = 0
    const kept = [...weights.keys()]
      .sort((x, y) => weights[y]! - weights[x]!)
      .filter((key) => {
        before += weights[key]!
        return before - weights[key]! <= 0.7 * total
      })
    for (const row of [0, length - 1]) {
      const own = [...mask.subarray(row * length, (row + 1) * length).keys()].filter((key) => mask[row * length + key])
      expect(own).toEqual(kept.sort((x, y) => x - y))
    }
  })

  test('equal tokens leave all clusters but one empty, and give no NaN', async () => {
    using attention = await use({ queryClusters: 8, keyClusters: 8, topP: 0.5 })
    const same = Float32Array.from({ length: length * headDim }, (_, i) => centres[0]![i % headDim]!)
    const { plan, out } = await call(attention, { q: same, k: same })
    expect(sizesOf(plan)).toEqual([length])
    expect(countPairs(plan).kept).toBe(length * length)
    expect(out.every(Number.isFinite)).toBe(true)
  })

  test('goes on from the centroids before, each layer and branch from its own', async () => {
    const options = { queryClusters: 12, keyClusters: 12, topP: 0.6, initialIterations: 2, iterations: 1 }
    using attention = await use(options)
    using longer = await use({ ...options, initialIterations: 3 })
    const noise = Float32Array.from({ length: length * headDim }, createRandom(43).gaussian)
    const given = { q: noise, k: noise }
    using state = attention.createState()
    const orders = (answer: Awaited<ReturnType<typeof call>>) => [...answer.plan.permutation.queries]
    const started = await call(attention, { ...given, state })
    const next = await call(attention, { ...given, state })
    // Two iterations and one are three.
    const third = orders(await call(longer, given))
    expect(orders(next)).toEqual(third)
    expect(orders(started)).not.toEqual(third)
    expect(orders(await call(attention, { ...given, state, layer: 1 }))).toEqual(orders(started))
    expect(state.sizeBytes).toBe(2 * 2 * 12 * headDim * 4)
    state.reset()
    expect(orders(await call(attention, { ...given, state }))).toEqual(orders(started))
  })

  test('tokens behind the grid see everything and are seen by all', async () => {
    using attention = await use({ queryClusters: 6, keyClusters: 6, topP: 0, minKeepRatio: 0 })
    const { plan, mask } = await call(attention, { grid: [2, 5, 11] })
    expect([...plan.permutation.queries.slice(110)]).toEqual([...plan.permutation.keys.slice(110)])
    for (let i = 0; i < length; i++) {
      expect(mask[i * length + 115]).toBe(1)
      expect(mask[115 * length + i]).toBe(1)
    }
    expect(countPairs(plan).kept).toBeLessThan(0.5 * length * length)
  })

  test('first steps and first layers are dense', async () => {
    using attention = await use({ queryClusters: 6, keyClusters: 6, topP: 0.3, denseSteps: 2, denseLayers: 1 })
    const path = async (step: number, layer: number) => (await call(attention, { step, layer })).path
    expect([await path(1, 5), await path(2, 0), await path(2, 1)]).toEqual(['dense', 'dense', 'sparse'])
  })

  test('a higher p keeps more of every row', async () => {
    let before = 0
    for (const topP of [0.1, 0.5, 0.9]) {
      using attention = await use({ queryClusters: 9, keyClusters: 20, topP, minKeepRatio: 0 })
      const noise = first.map((x, i) => 0.1 * x + values[i]!)
      const { kept } = countPairs((await call(attention, { q: noise, k: noise })).plan)
      expect(kept).toBeGreaterThan(before)
      before = kept
    }
  })
})

test('first rows are distinct, and spread', () => {
  const rows = sampleRows(100, 1000)
  expect(new Set(rows).size).toBe(100)
  expect(Math.min(...rows)).toBeGreaterThanOrEqual(0)
  expect(Math.max(...rows)).toBeLessThan(1000)
  expect(rows.filter((row) => row < 500).length).toBeGreaterThan(30)
  expect(sampleRows(7, 7).sort()).toEqual([0, 1, 2, 3, 4, 5, 6])
})
