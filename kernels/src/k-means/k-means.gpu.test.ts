import { createRuntime, type DType, type Runtime } from '@sparse-attention/core'
import { createRandom, type Layout, roundTo, uploadTensor } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { countingSortReference } from '../counting-sort/reference.js'
import { segmentedMeanReference } from '../segmented-mean/reference.js'
import { largestDifference } from '../shared/test-frame.js'
import { testMemory } from '../shared/test-memory.js'
import { type KMeansOptions, kMeans } from './k-means.js'
import { groupCount } from './nearest-centroid.js'
import { kMeansReference, nearestCentroidReference } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

interface Problem {
  readonly batch: number
  readonly heads: number
  readonly length: number
  readonly headDim: number
  readonly clusters: number
  /** Default: all rows. */
  readonly members?: number
  readonly dtype: DType
  readonly layout?: Layout
  /** [B·H, L, D] */
  readonly x: ArrayLike<number>
  /** [B·H, C, D] to start from, or rows [B·H, C] */
  readonly start: { readonly centroids: ArrayLike<number> } | { readonly rows: readonly number[] }
}

interface HeadResult {
  readonly labels: number[]
  readonly sizes: number[]
  readonly centroids: number[]
  readonly order: number[]
  readonly starts: number[]
}

/** Clusters on the GPU; returns what every batch entry and head got. */
async function cluster(problem: Problem, iterations: number, on: Runtime = runtime): Promise<HeadResult[]> {
  const { batch, heads, length, headDim, clusters, members = length, dtype, layout = 'BHLD', start } = problem
  const segments = batch * heads
  const groups = groupCount({ clusters, members }, length)
  using memory = testMemory(on)
  using x = uploadTensor(on, dtype, [batch, heads, length, headDim], problem.x, layout)
  const centroids = new Float32Array(segments * groups * headDim)
  if ('centroids' in start) centroids.set(Float32Array.from(start.centroids))
  const slices = {
    centroids: memory.words(centroids),
    labels: memory.words(segments * length),
    sizes: memory.words(segments * groups),
    order: memory.words(segments * length),
    starts: memory.words(segments * (groups + 1)),
  }
  const options: KMeansOptions = {
    iterations,
    clusters,
    members,
    ...('rows' in start && { rows: memory.words(Int32Array.from(start.rows)) }),
  }
  const record = await kMeans(on, { dtype, headDim })
  const dispatches = record(memory, x, slices, options)
  for (const { cost } of dispatches) expect(cost.operations).toBeLessThanOrEqual(on.work.operationsPerDispatch)
  await memory.submit(dispatches)
  const [labels, sizes, order, starts] = [
    await memory.read(slices.labels),
    await memory.read(slices.sizes),
    await memory.read(slices.order),
    await memory.read(slices.starts),
  ]
  const means = new Float32Array((await memory.read(slices.centroids)).buffer)
  return Array.from({ length: segments }, (_, s) => {
    const part = (values: ArrayLike<number>, size: number) => Array.from(values).slice(s * size, (s + 1) * size)
    return {
      labels: part(labels, length),
      sizes: part(sizes, groups),
      centroids: part(means, groups * headDim),
      order: part(order, length),
      starts: part(starts, groups + 1),
    }
  })
}

/** Rows of one head, and its first centroids. */
function head({ x, start, length, headDim, clusters }: Problem, s: number): { x: number[]; centroids: number[] } {
  const rows = Array.from(x).slice(s * length * headDim, (s + 1) * length * headDim)
  if ('centroids' in start) {
    return {
      x: rows,
      centroids: Array.from(start.centroids).slice(s * clusters * headDim, (s + 1) * clusters * headDim),
    }
  }
  const first = start.rows.slice(s * clusters, (s + 1) * clusters)
  return { x: rows, centroids: first.flatMap((row) => rows.slice(row * headDim, (row + 1) * headDim)) }
}

/** Clusters, and compares labels, sizes and order with the reference exactly, centroids within `tolerance`. */
async function check(problem: Problem, iterations: number, tolerance: number): Promise<HeadResult[]> {
  const results = await cluster(problem, iterations)
  results.forEach((actual, s) => {
    const { x, centroids } = head(problem, s)
    const expected = kMeansReference(x, centroids, problem.headDim, iterations)
    expect(actual.labels, `head ${s}`).toEqual(expected.labels)
    expect(actual.sizes, `head ${s}`).toEqual(expected.sizes)
    expect(largestDifference(actual.centroids, expected.centroids), `head ${s}`).toBeLessThanOrEqual(tolerance)
    const { order, starts } = countingSortReference(actual.labels, problem.clusters)
    expect({ order: actual.order, starts: actual.starts }, `head ${s}`).toEqual({ order, starts })
  })
  return results
}

const random = createRandom(8)
const integers = (count: number, low: number, high: number) =>
  Array.from({ length: count }, () => random.integer(low, high))

describe('k-means', () => {
  test.each<[DType, number, number, number, Layout]>([
    ['f32', 16, 133, 6, 'BLHD'],
    ['f16', 32, 97, 40, 'BLHD'],
    ['f16', 24, 65, 33, 'BHLD'],
  ])(
    'finds planted clusters: %s, head_dim %i, %i rows, %i clusters, %s',
    async (dtype, headDim, length, clusters, layout) => {
      const [batch, heads] = [2, 2]
      const centers = Array.from({ length: batch * heads * clusters * headDim }, () => 4 * random.gaussian())
      const planted = Array.from({ length: batch * heads * length }, (_, i) => {
        return i % length < clusters ? i % length : random.integer(0, clusters - 1)
      })
      const x = roundTo(
        dtype,
        Float64Array.from({ length: planted.length * headDim }, (_, i) => {
          const at = Math.floor(i / headDim)
          const center = Math.floor(at / length) * clusters + planted[at]!
          return centers[center * headDim + (i % headDim)]! + 0.1 * random.gaussian()
        }),
      )
      const rows = Array.from({ length: batch * heads * clusters }, (_, i) => i % clusters)
      const problem = { batch, heads, length, headDim, clusters, dtype, layout, x, start: { rows } }
      // Sums of at most 133 numbers of size at most 20, in float32: 133 roundings of at most 2e-4 / 2, divided by 133.
      const results = await check(problem, 3, 1e-4)
      expect(results.flatMap(({ labels }) => labels)).toEqual(planted)
    },
  )

  test('each iteration on gaussian rows is the float64 one from the same centroids', async () => {
    const shape = { batch: 1, heads: 2, length: 150, headDim: 16, clusters: 37, dtype: 'f32' } as const
    const x = Float32Array.from({ length: 2 * 150 * 16 }, () => random.gaussian())
    let start: Problem['start'] = { rows: Array.from({ length: 2 * 37 }, (_, i) => (i % 37) * 4) }
    for (let iteration = 0; iteration < 4; iteration++) {
      const problem: Problem = { ...shape, x, start }
      const results = await cluster(problem, 1)
      results.forEach((actual, s) => {
        const given = head(problem, s)
        const { labels, gaps } = nearestCentroidReference(given.x, given.centroids, 16)
        // Distances of size about 32, each a sum of 32 terms in float32: closer than 1e-4 either centroid may win.
        const clear = labels.flatMap((_, i) => (gaps[i]! > 1e-4 ? [i] : []))
        expect(clear.length).toBeGreaterThan(140)
        expect(clear.map((i) => actual.labels[i])).toEqual(clear.map((i) => labels[i]))
        const members = Array.from({ length: 37 }, (_, c) => [...labels.keys()].filter((i) => actual.labels[i] === c))
        const means = segmentedMeanReference(given.x, 16, members, Float64Array.from(given.centroids))
        // Means of at most 150 numbers of size about 1, in float32: 150 roundings of at most 1e-6 in the sum, divided by 150.
        expect(largestDifference(actual.centroids, means)).toBeLessThan(1e-6)
      })
      start = { centroids: results.flatMap(({ centroids }) => centroids) }
    }
  })

  test('integers: ties go to the lower cluster, duplicate centroids stay empty and keep their place', async () => {
    const shape = { batch: 1, heads: 2, length: 90, headDim: 24, clusters: 70, dtype: 'f16' } as const
    const x = integers(2 * 90 * 24, -1, 1)
    const centroids = integers(2 * 70 * 24, -1, 1)
    for (const [copy, of] of [
      [3, 1],
      [69, 0],
      [64, 31],
      [33, 32],
    ] as const) {
      for (let d = 0; d < 24; d++) centroids[copy * 24 + d] = centroids[of * 24 + d]!
    }
    // One iteration: the means are no integers any more. WGSL's division is within 2.5 ulp of at most 1.
    const [first] = await check({ ...shape, x, start: { centroids } }, 1, 2.5 * 2 ** -23)
    for (const copy of [3, 69, 64, 33]) {
      expect(first!.sizes[copy]).toBe(0)
      expect(first!.centroids.slice(copy * 24, copy * 24 + 24)).toEqual(centroids.slice(copy * 24, copy * 24 + 24))
    }
  })

  test('equal rows are one cluster, whatever they start from', async () => {
    const shape = { batch: 1, heads: 1, length: 67, headDim: 16, clusters: 5, dtype: 'f32' } as const
    const row = integers(16, -4, 4)
    const x = Array.from({ length: 67 }, () => row).flat()
    const [result] = await check({ ...shape, x, start: { rows: [9, 0, 66, 3, 4] } }, 4, 2.5 * 2 ** -21) // of at most 4
    expect(result!.sizes).toEqual([67, 0, 0, 0, 0])
  })

  test('as many clusters as rows, and one', async () => {
    const x = integers(33 * 16, -30, 30)
    const shape = { batch: 1, heads: 1, length: 33, headDim: 16, dtype: 'f32', x } as const
    const rows = Array.from({ length: 33 }, (_, i) => 32 - i)
    const [each] = await check({ ...shape, clusters: 33, start: { rows } }, 2, 2.5 * 2 ** -19) // division, of at most 30
    expect(each!.labels).toEqual(rows)
    await check({ ...shape, clusters: 1, start: { rows: [5] } }, 1, 2.5 * 2 ** -19)
  })

  test('rows that belong to no cluster are a group behind them, and attract nothing', async () => {
    const [length, members, headDim, clusters] = [80, 67, 16, 5]
    const x = Float32Array.from({ length: length * headDim }, (_, i) =>
      // The last rows lie in the middle of the others: their mean would be the nearest of all.
      i < members * headDim ? 4 * random.gaussian() : 0,
    )
    const starts = [3, 9, 20, 30, 66, 70]
    const shape = { batch: 1, heads: 1, headDim, dtype: 'f32' } as const
    const [all] = await cluster({ ...shape, length, clusters, members, x, start: { rows: starts } }, 3)
    const first = x.subarray(0, members * headDim)
    const [alone] = await cluster(
      { ...shape, length: members, clusters, x: first, start: { rows: starts.slice(0, 5) } },
      3,
    )
    expect(all!.labels).toEqual([...alone!.labels, ...Array(13).fill(5)])
    expect(all!.sizes).toEqual([...alone!.sizes, 13])
    expect(all!.centroids).toEqual([...alone!.centroids, ...Array(headDim).fill(0)])
    expect(all!.order.slice(members)).toEqual(Array.from({ length: 13 }, (_, i) => members + i))
  })

  test('cut into several dispatches, the same bits', async () => {
    const shape = { batch: 2, heads: 1, length: 100, headDim: 16, clusters: 9, dtype: 'f32' } as const
    const x = Float32Array.from({ length: 2 * 100 * 16 }, () => random.gaussian())
    const problem = { ...shape, x, start: { rows: [...Array(18).keys()] } }
    using cutting = await createRuntime({ device: runtime.device, work: { operationsPerDispatch: 51200 } })
    expect(await cluster(problem, 3, cutting)).toEqual(await cluster(problem, 3))
  })

  test('refuses no iterations and too many clusters', async () => {
    const x = integers(16, 0, 1)
    const problem = { batch: 1, heads: 1, length: 1, headDim: 16, clusters: 1, dtype: 'f32', x } as const
    const many = cluster({ ...problem, clusters: 5000, start: { rows: Array(5000).fill(0) } }, 1)
    await expect(many).rejects.toMatchObject({ where: 'clusters' })
    await expect(cluster({ ...problem, start: { rows: [0] } }, 0)).rejects.toMatchObject({ where: 'iterations' })
  })
})
