import { forEachPlanRows, type HostPlan } from '@sparse-attention/core'
import { type GridRegions, regionCounts, regionOfTokens } from '@sparse-attention/kernels'

export interface Coverage {
  /** Mass in the first k regions of the routing's order, k = 1 … R; mean over the regions that ask. */
  readonly routed: readonly number[]
  /** The same, in the order of the mass itself: no choice of regions covers more. */
  readonly best: readonly number[]
}

/**
 * What k regions cover of exact attention's mass.
 *
 * @param mass [R, R], of the region that asks, in each region
 * @param affinity [R, R], that regions are routed by: the largest first, of equal ones the lower region
 */
export function coverage(mass: Float64Array, affinity: Float64Array): Coverage {
  const count = Math.sqrt(mass.length)
  const curve = (by: Float64Array) => {
    const sums = new Float64Array(count)
    for (let a = 0; a < count; a++) {
      const rank = (region: number) => by[a * count + region]!
      const order = Array.from({ length: count }, (_, region) => region).sort((b, c) => rank(c) - rank(b) || b - c)
      let sum = 0
      for (const [i, region] of order.entries()) {
        sum += mass[a * count + region]!
        sums[i]! += sum / count
      }
    }
    return Array.from(sums)
  }
  return { routed: curve(affinity), best: curve(mass) }
}

/** [R, R]: of the pairs of a query of a region and a key of another, the share that a plan keeps; mean over heads. */
export function keptByRegion(plan: HostPlan, regions: GridRegions): Float64Array {
  const regionOf = regionOfTokens(regions)
  const { count } = regionCounts(regions)
  const sizes = new Float64Array(count)
  for (const region of regionOf) sizes[region]! += 1
  const kept = new Float64Array(count * count)
  forEachPlanRows(plan, ({ firstRow, endRow, keys }) => {
    for (let row = firstRow; row < endRow; row++) {
      const from = regionOf[row]!
      for (let i = 0; i < keys.length; i += 2) {
        for (let key = keys[i]!; key < keys[i + 1]!; key++) {
          const to = regionOf[key]!
          kept[from * count + to]! += 1 / (sizes[from]! * sizes[to]! * plan.queryHeads)
        }
      }
    }
  })
  return kept
}
