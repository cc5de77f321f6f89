import { describe, expect, it } from 'vitest'
import type { LayerLook } from './photo-classifier.js'
import { attendedShares, coverageOf, coveredMass, massOfRegions, neighbour } from './routes-view.js'

/** Two heads over 1 × 2 regions: head 0 looks at its own region, head 1 at the other; their mass is in quarters. */
const look: LayerLook = {
  ...{ layer: 3, stage: 1, grid: [2, 4], down: 1, across: 2, heads: 2, density: 0.5, attentionMs: 1 },
  routes: { heads: 2, topK: 1, indices: Int32Array.from([0, 1, 1, 0]) },
  mass: Float64Array.from([0.75, 0.25, 0.5, 0.5, 0.25, 0.75, 1, 0]),
  affinity: Float64Array.from([2, 1, 0, 1, 1, 2, 5, 4]),
}
const shared: LayerLook = {
  ...look,
  routes: { heads: 1, topK: 2, indices: Int32Array.from([1, -1, 0, 1]) },
  affinity: Float64Array.from([1, 2, 3, 1]),
}

describe('attendedShares', () => {
  it('is of a head, or how many heads attend', () => {
    expect([...attendedShares(look, 1, 0)]).toEqual([0, 1])
    expect([...attendedShares(look, 'all', 0)]).toEqual([0.5, 0.5])
  })
  it('is one for all heads where they share their routes, and everything where attention is dense', () => {
    expect([...attendedShares(shared, 1, 0)]).toEqual([0, 1])
    expect([...attendedShares(shared, 'all', 1)]).toEqual([1, 1])
    expect([...attendedShares({ ...look, routes: undefined }, 0, 1)]).toEqual([1, 1])
  })
})

it('adds up the mass of what a head attends to, head by head', () => {
  expect([...massOfRegions(look, 'all', 1)]).toEqual([0.75, 0.25])
  expect([...massOfRegions(look, 0, 1)]).toEqual([0.5, 0.5])
  expect(coveredMass(look, 0, 0)).toBe(0.75)
  expect(coveredMass(look, 'all', 0)).toBe(0.75)
  expect(coveredMass(look, 'all', 1)).toBe((0.5 + 1) / 2)
  expect(coveredMass(shared, 'all', 0)).toBe(0.5)
  expect(coveredMass({ ...look, routes: undefined }, 'all', 0)).toBe(1)
})

it('covers mass in the order of each head’s routing, or of all heads’', () => {
  expect(coverageOf(look, 1, [1])).toEqual({ routed: [1, 1], best: [1, 1] })
  expect(coverageOf(look, 'all', [0])).toEqual({ routed: [0.75, 1], best: [0.75, 1] })
  expect(coverageOf(look, 'all', [1])).toEqual({ routed: [0.75, 1], best: [0.75, 1] })
  expect(coverageOf(shared, 0, [0])).toEqual({ routed: [0.25, 1], best: [0.75, 1] })
  expect(coverageOf(shared, 'all')).toEqual({ routed: [(0.5 + 0.75) / 2, 1], best: [(0.5 + 0.75) / 2, 1] })
})

it('goes to the region beside one and stays at the edge', () => {
  const grid = { down: 2, across: 3 }
  const from = (key: string) => [0, 4].map((region) => neighbour(grid, region, key))
  expect(from('ArrowUp')).toEqual([0, 1])
  expect(from('ArrowDown')).toEqual([3, 4])
  expect(from('ArrowLeft')).toEqual([0, 3])
  expect(from('ArrowRight')).toEqual([1, 5])
  expect(from('Home')).toEqual([0, 3])
  expect(from('End')).toEqual([2, 5])
  expect(from('a')).toEqual([undefined, undefined])
})
