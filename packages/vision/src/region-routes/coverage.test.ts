import type { HostPlan } from '@sparse-attention/core'
import { equalRegions } from '@sparse-attention/kernels'
import { expect, it } from 'vitest'
import { regionAffinity, regionMass } from './affinity.js'
import { keptByRegion, massCoverage } from './coverage.js'

it('covers mass in the order of the routing, equal regions by number, and at best', () => {
  const mass = Float64Array.from([0.5, 0.25, 0.25, 0, 0, 0, 0, 1, 0.25, 0.25, 0.25, 0.25, 1, 0, 0, 0])
  // Orders 0 1 2 3, 3 2 1 0, 0 1 2 3 and 1 0 2 3.
  const affinity = Float64Array.from([4, 3, 2, 1, -4, -3, -2, -1, 0, 0, 0, 0, 5, 9, 5, 5])
  expect(massCoverage(mass, affinity)).toEqual({
    routed: [(0.5 + 1 + 0.25 + 0) / 4, (0.75 + 1 + 0.5 + 1) / 4, (1 + 1 + 0.75 + 1) / 4, 1],
    best: [(0.5 + 1 + 0.25 + 1) / 4, (0.75 + 1 + 0.5 + 1) / 4, (1 + 1 + 0.75 + 1) / 4, 1],
  })
  expect(massCoverage(mass, affinity, [3])).toEqual({ routed: [0, 1, 1, 1], best: [1, 1, 1, 1] })
  expect(massCoverage(mass, affinity, [0, 1])).toEqual({ routed: [0.75, 0.875, 1, 1], best: [0.75, 0.875, 1, 1] })
})

it('gives the mass of the regions that ask, and of no others', () => {
  // 2 × 2 regions of one token each; two heads.
  const regions = equalRegions([2, 2], 2)
  const q = Float64Array.from({ length: 16 }, (_, i) => ((i * 7) % 5) - 2)
  const k = Float64Array.from({ length: 16 }, (_, i) => ((i * 3) % 7) - 3)
  const input = { batch: 1, queryHeads: 2, kvHeads: 2, headDim: 2, q, k }
  const all = regionMass(input, regions)
  const asked = regionMass(input, regions, 1 / Math.sqrt(2), [2])
  expect([...asked.subarray(8, 12)]).toEqual([...all.subarray(8, 12)])
  expect([...asked.subarray(0, 8), ...asked.subarray(12)]).toEqual(new Array(12).fill(0))
})

it('counts what a plan keeps, over batch and heads', () => {
  // 2 × 4 tokens in 2 × 2 regions of two tokens each: 0 0 1 1 above 2 2 3 3. Blocks of two queries and four keys: head 0 keeps
  // the upper keys for all, head 1 the lower ones for the first block.
  const plan: HostPlan = {
    kind: 'block',
    ...{ batch: 1, queryHeads: 2, queryLength: 8, keyLength: 8, causal: false, blockQ: 2, blockK: 4 },
    bitmap: Uint32Array.from([1, 1, 1, 1, 2, 0, 0, 0]),
  }
  const kept = keptByRegion(plan, equalRegions([2, 4], 2))
  expect([...kept.subarray(0, 4)]).toEqual([0.5, 0.5, 0.5, 0.5])
  expect([...kept.subarray(12, 16)]).toEqual([0.5, 0.5, 0, 0])
  const twice = { ...plan, batch: 2, bitmap: Uint32Array.from([...plan.bitmap, ...plan.bitmap]) }
  expect(keptByRegion(twice, equalRegions([2, 4], 2))).toEqual(kept)
})

it('refuses what is not of the grid', () => {
  const regions = equalRegions([2, 2], 2)
  const input = { batch: 1, queryHeads: 2, kvHeads: 1, headDim: 2, q: new Float64Array(16), k: new Float64Array(8) }
  const refused = (code: string, where: string) => expect.objectContaining({ code, where })
  expect(() => regionAffinity(input, regions)).not.toThrow()
  for (const call of [regionAffinity, regionMass]) {
    expect(() => call({ ...input, q: new Float64Array(15) }, regions)).toThrow(refused('INVALID_SHAPE', 'q'))
    expect(() => call(input, equalRegions([2, 3], 2))).toThrow(refused('INVALID_SHAPE', 'q'))
    expect(() => call({ ...input, k: input.q }, regions)).toThrow(refused('INVALID_SHAPE', 'k'))
    const [q, k] = [new Float64Array(24), new Float64Array(16)]
    expect(() => call({ ...input, queryHeads: 3, kvHeads: 2, q, k }, regions)).toThrow(
      refused('INVALID_SHAPE', 'queryHeads'),
    )
  }
  expect(() => regionAffinity(input, regions, 3)).toThrow(refused('INVALID_ARGUMENT', 'headsTogether'))
  for (const asking of [[], [4], [-1], [0.5]]) {
    expect(() => regionMass(input, regions, 1, asking)).toThrow(refused('INVALID_ARGUMENT', 'asking'))
    expect(() => massCoverage(new Float64Array(16), new Float64Array(16), asking)).toThrow(
      refused('INVALID_ARGUMENT', 'asking'),
    )
  }
  expect(() => massCoverage(new Float64Array(15), new Float64Array(15))).toThrow(refused('INVALID_SHAPE', 'mass'))
  expect(() => massCoverage(new Float64Array(16), new Float64Array(32))).toThrow(refused('INVALID_SHAPE', 'affinity'))
  const plan: HostPlan = {
    kind: 'block',
    ...{ batch: 1, queryHeads: 1, queryLength: 3, keyLength: 4, causal: false, blockQ: 4, blockK: 4 },
    bitmap: Uint32Array.of(1),
  }
  expect(() => keptByRegion(plan, regions)).toThrow(refused('INVALID_SHAPE', 'regions'))
})
