import { forEachPlanRows, type HostPlan, SparseAttentionError } from '@sparse-attention/core'
import { type GridRegions, regionCounts, regionOfTokens } from '@sparse-attention/kernels'
import { checkAsking, checkLength } from './check.js'

/** What k regions cover of exact attention's mass, for every k. */
export interface MassCoverage {
  /** Mass in the first k regions of the routing's order, k = 1 … R; mean over the regions that ask. */
  readonly routed: readonly number[]
  /** The same, in the order of the mass itself: no choice of regions covers more. */
  readonly best: readonly number[]
}

/**
 * What k regions cover of exact attention's mass: the curve that says which k is enough.
 *
 * @param mass [R, R], of the region that asks, in each region: of one sequence of `regionMass`
 * @param affinity [R, R], that regions are routed by, the largest first, of equal ones the lower region: of heads that route
 *   together, from `regionAffinity`
 * @param asking the regions that ask. Default: all
 * @throws INVALID_SHAPE where mass and affinity are not [R, R], INVALID_ARGUMENT where no region of that number asks
 */
export function massCoverage(
  mass: ArrayLike<number>,
  affinity: ArrayLike<number>,
  asking?: readonly number[],
): MassCoverage {
  const count = Math.floor(Math.sqrt(mass.length))
  checkLength('mass', mass, count * count)
  checkLength('affinity', affinity, count * count)
  if (asking) checkAsking(asking, count)
  const regions = Array.from({ length: count }, (_, region) => region)
  const ask = asking ?? regions
  const curve = (by: ArrayLike<number>) => {
    const sums = new Float64Array(count)
    for (const a of ask) {
      const rank = (region: number) => by[a * count + region]!
      const order = [...regions].sort((b, c) => rank(c) - rank(b) || b - c)
      let sum = 0
      for (const [i, region] of order.entries()) {
        sum += mass[a * count + region]!
        sums[i]! += sum / ask.length
      }
    }
    return Array.from(sums)
  }
  return { routed: curve(affinity), best: curve(mass) }
}

/**
 * Of the pairs of a query of a region and a key of another, the share that a plan keeps; mean over batch and heads. Any plan.
 *
 * @returns f64[R, R]
 * @throws INVALID_SHAPE where the plan's tokens are not the grid's
 */
export function keptByRegion(plan: HostPlan, regions: GridRegions): Float64Array {
  const regionOf = regionOfTokens(regions)
  checkPlan(plan, regionOf.length)
  const { count } = regionCounts(regions)
  const heads = plan.batch * plan.queryHeads
  const sizes = new Float64Array(count)
  for (const region of regionOf) sizes[region]! += 1
  const kept = new Float64Array(count * count)
  forEachPlanRows(plan, ({ firstRow, endRow, keys }) => {
    for (let row = firstRow; row < endRow; row++) {
      const from = regionOf[row]!
      for (let i = 0; i < keys.length; i += 2) {
        for (let key = keys[i]!; key < keys[i + 1]!; key++) {
          const to = regionOf[key]!
          kept[from * count + to]! += 1 / (sizes[from]! * sizes[to]! * heads)
        }
      }
    }
  })
  return kept
}

function checkPlan({ queryLength, keyLength }: HostPlan, tokens: number): void {
  if (queryLength === tokens && keyLength === tokens) return
  throw new SparseAttentionError('INVALID_SHAPE', {
    message: `The plan is of ${queryLength} queries and ${keyLength} keys, the regions of ${tokens} tokens.`,
    fix: 'Give the regions of the grid that the plan was made for.',
    where: 'regions',
  })
}
