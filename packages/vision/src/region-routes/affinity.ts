import { SparseAttentionError } from '@sparse-attention/core'
import { type GridRegions, regionCounts, regionOfTokens } from '@sparse-attention/kernels'
import { checkAsking, checkQueriesAndKeys } from './check.js'

/** Queries and keys of the tokens of a grid, contiguous, on the host. */
export interface HostQueriesAndKeys {
  readonly batch: number
  readonly queryHeads: number
  readonly kvHeads: number
  readonly headDim: number
  /** [B, Hq, height · width, D] */
  readonly q: ArrayLike<number>
  /** [B, Hkv, height · width, D] */
  readonly k: ArrayLike<number>
}

/**
 * Affinities that regions are routed by (BiFormer, arXiv 2303.08810, eq. 3), in float64: products of the means of a
 * region's queries and of another's keys, added up over heads that route together. Not scaled.
 *
 * @param headsTogether  query heads that share their routes: `queryHeads` for `routing: 'shared'`, 1 for 'per-head'
 * @returns f64[B, Hq / headsTogether, R, R]: of the region that asks, to each region
 * @throws INVALID_SHAPE where q or k are not of the grid's tokens, INVALID_ARGUMENT where headsTogether does not divide the heads
 */
export function regionAffinity(
  input: HostQueriesAndKeys,
  regions: GridRegions,
  headsTogether: number = input.queryHeads,
): Float64Array {
  checkQueriesAndKeys(input, regions)
  const { batch, queryHeads, kvHeads, headDim, q, k } = input
  if (!Number.isInteger(queryHeads / headsTogether) || headsTogether < 1) {
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: `${headsTogether} of ${queryHeads} query heads cannot route together.`,
      fix: "Pass the query heads for routing 'shared', or 1 for 'per-head'.",
      where: 'headsTogether',
    })
  }
  const { count } = regionCounts(regions)
  const [qMeans, kMeans] = [
    regionMeans(q, batch * queryHeads, headDim, regions),
    regionMeans(k, batch * kvHeads, headDim, regions),
  ]
  const affinity = new Float64Array(((batch * queryHeads) / headsTogether) * count * count)
  for (let head = 0; head < batch * queryHeads; head++) {
    const kvHead = Math.floor((head * kvHeads) / queryHeads)
    const first = Math.floor(head / headsTogether) * count * count
    for (let r = 0; r < count; r++) {
      for (let c = 0; c < count; c++) {
        let sum = 0
        for (let d = 0; d < headDim; d++)
          sum += qMeans[(head * count + r) * headDim + d]! * kMeans[(kvHead * count + c) * headDim + d]!
        affinity[first + r * count + c]! += sum
      }
    }
  }
  return affinity
}

/** Means of rows over regions, f64[heads, R, D]. */
function regionMeans(rows: ArrayLike<number>, heads: number, headDim: number, regions: GridRegions): Float64Array {
  const { count } = regionCounts(regions)
  const region = regionOfTokens(regions)
  const means = new Float64Array(heads * count * headDim)
  const sizes = new Float64Array(count)
  for (const r of region) sizes[r]!++
  for (let head = 0; head < heads; head++) {
    for (let token = 0; token < region.length; token++) {
      const to = (head * count + region[token]!) * headDim
      const from = (head * region.length + token) * headDim
      for (let d = 0; d < headDim; d++) means[to + d]! += rows[from + d]!
    }
  }
  return means.map((sum, i) => sum / sizes[Math.floor(i / headDim) % count]!)
}

/**
 * Where dense attention goes, region by region: the softmax weight of each region's keys, averaged over the queries of
 * the region that asks and over heads. Against it a route can be judged: what its regions hold is the mass it covers.
 *
 * Cost: 2 · B · Hq · N² · D operations on the CPU, some seconds for 56 × 56 tokens; of a region that does not ask, none.
 *
 * @param scale  factor on QKᵀ
 * @param asking the regions that ask. Default: all
 * @returns f64[B, R, R], rows that sum to 1; zeros for a region that does not ask
 * @throws INVALID_SHAPE where q or k are not of the grid's tokens, INVALID_ARGUMENT where no region of that number asks
 */
export function regionMass(
  input: HostQueriesAndKeys,
  regions: GridRegions,
  scale: number = 1 / Math.sqrt(input.headDim),
  asking?: readonly number[],
): Float64Array {
  checkQueriesAndKeys(input, regions)
  const { batch, queryHeads, kvHeads, headDim, q, k } = input
  const { count } = regionCounts(regions)
  if (asking) checkAsking(asking, count)
  const region = regionOfTokens(regions)
  const asks = asking && new Set(asking)
  const length = region.length
  const sizes = new Float64Array(count)
  for (const r of region) sizes[r]!++
  const mass = new Float64Array(batch * count * count)
  const weights = new Float64Array(length)
  for (let head = 0; head < batch * queryHeads; head++) {
    const kvHead = Math.floor((head * kvHeads) / queryHeads)
    for (let row = 0; row < length; row++) {
      if (asks && !asks.has(region[row]!)) continue
      let top = Number.NEGATIVE_INFINITY
      for (let key = 0; key < length; key++) {
        let sum = 0
        for (let d = 0; d < headDim; d++)
          sum += q[(head * length + row) * headDim + d]! * k[(kvHead * length + key) * headDim + d]!
        weights[key] = sum * scale
        top = Math.max(top, weights[key]!)
      }
      let total = 0
      for (let key = 0; key < length; key++) {
        weights[key] = Math.exp(weights[key]! - top)
        total += weights[key]!
      }
      const r = region[row]!
      const first = (Math.floor(head / queryHeads) * count + r) * count
      for (let key = 0; key < length; key++)
        mass[first + region[key]!]! += weights[key]! / (total * queryHeads * sizes[r]!)
    }
  }
  return mass
}
