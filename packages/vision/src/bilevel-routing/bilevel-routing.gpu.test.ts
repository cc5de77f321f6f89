import { createRuntime, type Runtime } from '@sparse-attention/core'
import { dense, equalRegions, regionCounts, regionOfTokens } from '@sparse-attention/kernels'
import { makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { regionAffinity, regionMass } from '../region-routes/affinity.js'
import { regionRoutes } from '../region-routes/routes.js'
import { shiftedWindows } from '../shifted-windows/method.js'
import { type BilevelRoutingOptions, bilevelRouting } from './method.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const config = { queryHeads: 2, headDim: 16, dtype: 'f32', causal: false } as const

interface Values {
  readonly q: Float32Array
  readonly k: Float32Array
  readonly v: Float32Array
}

const shapeOf = ([height, width]: readonly [number, number]) => {
  const length = height * width
  return { batch: 1, queryHeads: 2, kvHeads: 2, queryLength: length, keyLength: length, headDim: 16 }
}

const gaussian = (grid: readonly [number, number], seed = 3): Values => {
  const { q, k, v } = makeInputs('gaussian', shapeOf(grid), 'f32', seed)
  return { q: Float32Array.from(q), k: Float32Array.from(k), v: Float32Array.from(v) }
}

function upload({ q, k, v }: Values, grid: readonly [number, number]) {
  const shape = [1, 2, grid[0] * grid[1], 16]
  const [qTensor, kTensor, vTensor] = [q, k, v].map((values) => runtime.tensor('f32', shape, values))
  return {
    tensors: { q: qTensor!, k: kTensor!, v: vTensor!, context: { grid } },
    [Symbol.dispose]() {
      for (const tensor of [qTensor, kTensor, vTensor]) tensor!.dispose()
    },
  }
}

/** Output, LSE and plan of one call. */
async function run(method: Parameters<Runtime['use']>[0], values: Values, grid: readonly [number, number]) {
  using attention = await runtime.use(method, config)
  using uploaded = upload(values, grid)
  const { out, lse, plan } = await attention.run(uploaded.tensors)
  const read = { out: await runtime.read(out), lse: await runtime.read(lse), path: plan.path, host: await plan.read() }
  out.buffer.destroy()
  lse.buffer.destroy()
  return read
}

describe('bilevel-routing', () => {
  test.each<[string, readonly [number, number], Partial<BilevelRoutingOptions>]>([
    ['k = R', [8, 6], { regions: 2, topK: 4 }],
    ['k above R', [8, 6], { regions: 2, topK: 5 }],
    ['a grid of fewer tokens than k', [1, 3], {}],
  ])('%s is dense attention, bit for bit', async (_, grid, options) => {
    const values = gaussian(grid)
    const all = await run(bilevelRouting(options), values, grid)
    const exact = await run(dense(), values, grid)
    expect(all.path).toBe('dense')
    expect(all.out).toEqual(exact.out)
    expect(all.lse).toEqual(exact.lse)
  })

  test('a grid that is shorter than S has a region a token on that side', async () => {
    const { host } = await run(bilevelRouting({ regions: 7, topK: 2 }), gaussian([3, 20]), [3, 20])
    // 20 tokens in sevenths: 3 each, the last region 2.
    expect(regionRoutes(host)).toMatchObject({ regions: 21, topK: 2 })
  })

  test('regions that route to themselves are windows', async () => {
    // Every region has a direction of its own, in queries and keys.
    const square = [12, 12] as const
    const on = gaussian(square)
    const nine = regionOfTokens(equalRegions(square, 3))
    for (const rows of [on.q, on.k]) {
      for (let i = 0; i < rows.length; i++) rows[i]! += nine[Math.floor(i / 16) % nine.length] === i % 16 ? 4 : 0
    }
    const routed = await run(bilevelRouting({ regions: 3, topK: 1 }), on, square)
    const windows = await run(shiftedWindows({ window: 4, shift: 'none' }), on, square)
    expect([...regionRoutes(routed.host).routes]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8])
    expect(routed.out).toEqual(windows.out)
    expect(routed.lse).toEqual(windows.lse)
  })

  test('one routing is shared by all heads, or each has its own; both are the k best of the affinities', async () => {
    const grid = [9, 10] as const
    const values = gaussian(grid, 5)
    const regions = equalRegions(grid, 4)
    const { count } = regionCounts(regions)
    for (const [routing, heads] of [
      ['shared', 1],
      ['per-head', 2],
    ] as const) {
      const { host } = await run(bilevelRouting({ regions: 4, topK: 3, routing }), values, grid)
      const routes = regionRoutes(host)
      expect(routes).toMatchObject({ batch: 1, heads, regions: count, topK: 3 })
      const affinity = regionAffinity({ ...shapeOf(grid), ...values }, regions, 2 / heads)
      const best = Array.from({ length: heads * count }, (_, row) => {
        const of = affinity.subarray(row * count, (row + 1) * count)
        const order = Array.from(of, (_, c) => c).sort((a, b) => of[b]! - of[a]!)
        return order.slice(0, 3).sort((a, b) => a - b)
      })
      expect([...routes.routes]).toEqual(best.flat())
    }
  })

  test('what routed regions hold of the dense mass is what the sparse LSE lacks', async () => {
    const grid = [8, 9] as const
    const values = gaussian(grid, 6)
    const regions = equalRegions(grid, 3)
    const { count } = regionCounts(regions)
    const region = regionOfTokens(regions)
    const sparse = await run(bilevelRouting({ regions: 3, topK: 2 }), values, grid)
    const exact = await run(dense(), values, grid)
    const { routes, topK } = regionRoutes(sparse.host)
    const mass = regionMass({ ...shapeOf(grid), ...values }, regions)
    for (let r = 0; r < count; r++) {
      const row = Array.from(mass.subarray(r * count, (r + 1) * count))
      // Sums of at most 72 weights in float64, each rounded to 2^-53 of itself.
      expect(row.reduce((sum, x) => sum + x, 0)).toBeCloseTo(1, 12)
      const covered = routes.subarray(r * topK, (r + 1) * topK).reduce((sum, c) => sum + row[c]!, 0)
      const rows = Array.from(sparse.lse, (_, i) => i).filter((i) => region[i % region.length] === r)
      const recall = rows.reduce((sum, i) => sum + Math.exp(sparse.lse[i]! - exact.lse[i]!), 0) / rows.length
      // Two LSE of size about 5 in f32, a few roundings of 2^-22 each.
      expect(Math.abs(recall - covered)).toBeLessThan(1e-5)
    }
  })

  test('memory does not grow with k', async () => {
    const grid = [14, 14] as const
    using own = await createRuntime({ device: runtime.device })
    const values = gaussian(grid)
    const bytes: number[] = []
    for (const topK of [1, 24]) {
      using attention = await own.use(bilevelRouting({ topK }), config)
      using uploaded = upload(values, grid)
      const { out, lse } = await attention.run(uploaded.tensors)
      bytes.push(own.scratch.allocatedBytes)
      out.buffer.destroy()
      lse.buffer.destroy()
    }
    expect(bytes[1]).toBe(bytes[0])
    // q, k, v, out and LSE in the order of the regions, sums over regions, rows of workgroups; in buffers of a power of two.
    const once = 2 * 14 * 14 * (4 * 16 + 1) * 4
    expect(bytes[0]).toBeLessThan(4 * once)
  })

  test('a grid that has not a place for every token is refused', async () => {
    const values = gaussian([4, 5])
    using attention = await runtime.use(bilevelRouting(), config)
    using uploaded = upload(values, [4, 5])
    const call = (grid: readonly number[]) => attention.run({ ...uploaded.tensors, context: { grid } })
    await expect(call([4, 4])).rejects.toMatchObject({ code: 'INVALID_SHAPE', where: 'context.grid' })
    await expect(call([1, 4, 5])).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', where: 'context.grid' })
  })

  test.each([49, 784, 3136, 65536])('scaled options keep 0.2 to 0.5 of %i tokens of a square', (length) => {
    const { topK } = bilevelRouting.definition.scaled(length)
    const side = Math.sqrt(length)
    const { count } = regionCounts(equalRegions([side, side], 7))
    expect(topK! / count).toBeGreaterThan(0.2)
    expect(topK! / count).toBeLessThan(0.5)
  })

  test('plans without regions have no routes', async () => {
    const { host } = await run(dense(), gaussian([4, 5]), [4, 5])
    expect(() => regionRoutes(host)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', where: 'plan' }))
    // Rows of different lengths are padded.
    const plan = {
      ...({ kind: 'variable-block', batch: 1, queryHeads: 1, queryLength: 3, keyLength: 3, causal: false } as const),
      ...{ queryBlocks: 3, keyBlocks: 3, keyHeads: 1 },
      bitmap: Uint32Array.of(0b101, 0b010, 0),
      queryStarts: Int32Array.of(0, 1, 2, 3),
      keyStarts: Int32Array.of(0, 1, 2, 3),
    }
    expect([...regionRoutes(plan).routes]).toEqual([0, 2, 1, -1, -1, -1])
  })
})
