import { equalRegions, regionOfTokens } from '@sparse-attention/kernels'
import type { Reference } from '@sparse-attention/testing'
import { regionAffinity } from '../region-routes/affinity.js'
import type { BilevelRoutingOptions } from './method.js'

/**
 * Bi-level routing in plain loops (arXiv 2303.08810, §3.2): region means of queries and keys, their products, the k
 * largest of each row, ties to the lower index; a token sees the tokens of its region's k regions. In blocks of one token.
 */
export const bilevelRoutingReference: Reference<BilevelRoutingOptions> = (
  input,
  { regions: perSide, topK, routing },
) => {
  const { batch, queryHeads, keyLength: length, context } = input
  const [height, width] = context.grid ?? [1, length]
  const regions = equalRegions([height!, width!], perSide)
  const region = regionOfTokens(regions)
  const count = Math.max(...region) + 1
  const sizes = new Float64Array(count)
  for (const r of region) sizes[r]!++
  const together = routing === 'shared' ? queryHeads : 1
  const affinity = regionAffinity(input, regions, together)

  const pairs = batch * queryHeads * length * length
  const kept = new Uint8Array(pairs)
  const scores = new Float64Array(pairs)
  const mass = new Float64Array(pairs)
  const gap = new Float64Array(batch * queryHeads * length)
  for (let head = 0; head < batch * queryHeads; head++) {
    for (let r = 0; r < count; r++) {
      const first = (Math.floor(head / together) * count + r) * count
      const row = affinity.subarray(first, first + count)
      const order = Array.from(row, (_, c) => c).sort((a, b) => row[b]! - row[a]! || a - b)
      const routes = new Set(order.slice(0, topK))
      const atCut = topK < count ? row[order[topK - 1]!]! - row[order[topK]!]! : Number.POSITIVE_INFINITY
      const largest = Math.max(...row.map(Math.abs))
      for (let token = 0; token < length; token++) {
        if (region[token] !== r) continue
        gap[head * length + token] = atCut
        for (let key = 0; key < length; key++) {
          const at = (head * length + token) * length + key
          const c = region[key]!
          kept[at] = routes.has(c) ? 1 : 0
          scores[at] = row[c]!
          // A region's tokens share what it stands for; affinities of either sign become masses.
          mass[at] = (largest + row[c]!) / sizes[c]!
        }
      }
    }
  }
  return { blockQ: 1, blockK: 1, kept, scores, gap, mass }
}
