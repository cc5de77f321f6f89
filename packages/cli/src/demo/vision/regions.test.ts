import type { HostPlan } from '@sparse-attention/core'
import { expect, it } from 'vitest'
import { coverage, exactAttention, keptByRegion, routingOrder } from './regions.js'

// 2 × 4 tokens in 2 × 2 regions of two tokens each: 0 0 1 1 above 2 2 3 3.
const regions = { grid: [2, 4], side: 2 } as const

it('sums exact attention up by region', () => {
  // Queries are 1, keys log 1 … log 8: a query gives key j the share (j + 1) / 36.
  const q = new Float32Array(8).fill(1)
  const k = Float32Array.from({ length: 8 }, (_, j) => Math.log(j + 1))
  const { mass, lse } = exactAttention({ q, k, heads: 1, headDim: 1, scale: 1 }, regions)
  for (let a = 0; a < 4; a++) {
    // Keys are f32, with an error of 1e-7 each.
    for (const [b, share] of [3, 7, 11, 15].entries()) expect(mass[a * 4 + b]).toBeCloseTo(share / 36, 6)
  }
  expect(lse[5]).toBeCloseTo(Math.log(36), 6)
})

it('takes the mean over heads, each with keys and queries of its own, and scales', () => {
  const q = Float32Array.from({ length: 16 }, (_, i) => (i < 8 ? 0 : 1))
  const k = Float32Array.from({ length: 16 }, (_, i) => (i >= 8 && i < 10 ? Math.log(9) : 0))
  const { mass } = exactAttention({ q, k, heads: 2, headDim: 1, scale: 0.5 }, regions)
  // The first head sees all alike; the second, with √9 = 3 to 1, gives region 0 half of 6 + 6.
  expect(mass[0]).toBeCloseTo((0.25 + 0.5) / 2, 6)
  expect(mass[4 + 3]).toBeCloseTo((0.25 + 1 / 6) / 2, 6)
})

it('orders regions by the products of means over all heads, and equal ones by number', () => {
  // One value a region: queries 1, −1, 0, 1; keys 3, 1, 2, 2. The second head turns region 3 around.
  const spread = (values: readonly number[]) => values.flatMap((value) => [value - 1, value + 1])
  const q = Float32Array.from([...spread([1, -1, 0, 1]), ...spread([0, 0, 0, -2])])
  const k = Float32Array.from([...spread([3, 1, 2, 2]), ...spread([3, 1, 2, 2])])
  const order = routingOrder({ q, k, heads: 2, headDim: 1, scale: 1 }, regions)
  expect(Array.from({ length: 4 }, (_, a) => [...order.subarray(a * 4, a * 4 + 4)])).toEqual([
    [0, 2, 3, 1],
    [1, 2, 3, 0],
    [0, 1, 2, 3],
    [1, 2, 3, 0],
  ])
})

it('covers mass in the order of the routing, and at best', () => {
  const mass = Float64Array.from([0.5, 0.25, 0.25, 0, 0, 0, 0, 1, 0.25, 0.25, 0.25, 0.25, 1, 0, 0, 0])
  const order = Uint16Array.from([0, 1, 2, 3, 3, 2, 1, 0, 0, 1, 2, 3, 1, 0, 2, 3])
  expect(coverage(mass, order)).toEqual({
    routed: [(0.5 + 1 + 0.25 + 0) / 4, (0.75 + 1 + 0.5 + 1) / 4, (1 + 1 + 0.75 + 1) / 4, 1],
    best: [(0.5 + 1 + 0.25 + 1) / 4, (0.75 + 1 + 0.5 + 1) / 4, (1 + 1 + 0.75 + 1) / 4, 1],
  })
})

it('counts what a plan keeps, over heads', () => {
  // Blocks of two queries and four keys: head 0 keeps the upper keys for all, head 1 the lower ones for the first block.
  const plan: HostPlan = {
    kind: 'block',
    ...{ batch: 1, queryHeads: 2, queryLength: 8, keyLength: 8, causal: false, blockQ: 2, blockK: 4 },
    bitmap: Uint32Array.from([1, 1, 1, 1, 2, 0, 0, 0]),
  }
  const kept = keptByRegion(plan, regions)
  expect([...kept.subarray(0, 4)]).toEqual([0.5, 0.5, 0.5, 0.5])
  expect([...kept.subarray(12, 16)]).toEqual([0.5, 0.5, 0, 0])
})
