import { forEachPlanRows, type HostPlan } from '@sparse-attention/core'
import { equalRegions, regionCounts, regionOfTokens } from '@sparse-attention/kernels'

/** A map of tokens cut into side × side regions, numbered row by row. */
export interface Regions {
  readonly grid: readonly [height: number, width: number]
  readonly side: number
}

/** Queries and keys of one attention, f32 [heads, tokens, headDim] each, tokens in rows of the map. */
export interface Scored {
  readonly q: Float32Array
  readonly k: Float32Array
  readonly heads: number
  readonly headDim: number
  /** Factor on q · k. */
  readonly scale: number
}

/** What exact attention does, seen by region. */
export interface ExactAttention {
  /** [R, R]: of the mass that queries of a region give to keys, the share that keys of another get; mean over tokens and heads. */
  readonly mass: Float64Array
  /** [heads, tokens], natural log. */
  readonly lse: Float32Array
}

/** The region of each token, and how many there are. */
function regionsOf({ grid, side }: Regions): { readonly regionOf: Uint32Array; readonly count: number } {
  const regions = equalRegions(grid, side)
  return { regionOf: regionOfTokens(regions), count: regionCounts(regions).count }
}

/** Softmax attention in float64, summed up by region. */
export function exactAttention({ q, k, heads, headDim, scale }: Scored, regions: Regions): ExactAttention {
  const { regionOf, count } = regionsOf(regions)
  const tokens = regionOf.length
  const mass = new Float64Array(count * count)
  const lse = new Float32Array(heads * tokens)
  const sizes = new Float64Array(count)
  for (const region of regionOf) sizes[region]! += heads
  const scores = new Float64Array(tokens)
  for (let row = 0; row < heads * tokens; row++) {
    const query = q.subarray(row * headDim, (row + 1) * headDim)
    const firstKey = (row - (row % tokens)) * headDim
    let most = Number.NEGATIVE_INFINITY
    for (let key = 0; key < tokens; key++) {
      let sum = 0
      for (let i = 0; i < headDim; i++) sum += query[i]! * k[firstKey + key * headDim + i]!
      scores[key] = sum * scale
      most = Math.max(most, scores[key]!)
    }
    let total = 0
    for (let key = 0; key < tokens; key++) {
      scores[key] = Math.exp(scores[key]! - most)
      total += scores[key]!
    }
    lse[row] = most + Math.log(total)
    const from = regionOf[row % tokens]!
    for (let key = 0; key < tokens; key++) {
      mass[from * count + regionOf[key]!]! += scores[key]! / total / sizes[from]!
    }
  }
  return { mass, lse }
}

/**
 * For each region all regions, those first whose mean key has the largest product with its mean query, over all heads together;
 * of equal ones the lower first: the order in which bi-level routing takes them.
 *
 * @returns [R, R]
 */
export function routingOrder({ q, k, heads, headDim }: Scored, regions: Regions): Uint16Array {
  const { regionOf, count } = regionsOf(regions)
  const [queries, keys] = [q, k].map((values) => meansOf(values, regionOf, count, heads, headDim)) as [
    Float64Array,
    Float64Array,
  ]
  const width = heads * headDim
  const order = new Uint16Array(count * count)
  for (let a = 0; a < count; a++) {
    const affinity = Float64Array.from({ length: count }, (_, b) => {
      let sum = 0
      for (let i = 0; i < width; i++) sum += queries[a * width + i]! * keys[b * width + i]!
      return sum
    })
    const sorted = Array.from(affinity.keys()).sort((b, c) => affinity[c]! - affinity[b]! || b - c)
    order.set(sorted, a * count)
  }
  return order
}

/** [R, heads · headDim] */
function meansOf(
  values: Float32Array,
  regionOf: Uint32Array,
  count: number,
  heads: number,
  headDim: number,
): Float64Array {
  const sums = new Float64Array(count * heads * headDim)
  const sizes = new Float64Array(count)
  for (const region of regionOf) sizes[region]! += 1
  for (let head = 0; head < heads; head++) {
    for (const [token, region] of regionOf.entries()) {
      for (let i = 0; i < headDim; i++) {
        const value = values[(head * regionOf.length + token) * headDim + i]!
        sums[(region * heads + head) * headDim + i]! += value / sizes[region]!
      }
    }
  }
  return sums
}

export interface Coverage {
  /** Mass in the first k regions of the routing's order, k = 1 … R; mean over the regions that ask. */
  readonly routed: readonly number[]
  /** The same, in the order of the mass itself: no choice of regions covers more. */
  readonly best: readonly number[]
}

export function coverage(mass: Float64Array, order: Uint16Array): Coverage {
  const count = Math.sqrt(order.length)
  const curve = (row: (a: number) => ArrayLike<number>) => {
    const sums = new Float64Array(count)
    for (let a = 0; a < count; a++) {
      let sum = 0
      const shares = row(a)
      for (let i = 0; i < count; i++) {
        sum += shares[i]!
        sums[i]! += sum / count
      }
    }
    return Array.from(sums)
  }
  const massOf = (a: number) => mass.subarray(a * count, (a + 1) * count)
  return {
    routed: curve((a) => Array.from({ length: count }, (_, i) => massOf(a)[order[a * count + i]!]!)),
    best: curve((a) => Float64Array.from(massOf(a)).sort().reverse()),
  }
}

/** [R, R]: of the pairs of a query of a region and a key of another, the share that a plan keeps; mean over heads. */
export function keptByRegion(plan: HostPlan, regions: Regions): Float64Array {
  const { regionOf, count } = regionsOf(regions)
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
