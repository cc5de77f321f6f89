import { floatToHalf, halfToFloat } from '@sparse-attention/core'
import type { ReferenceInput } from '@sparse-attention/testing'
import type { Estimate } from './page-selector.js'

/** Pages that one list keeps, and how close the decision was, as a share of the largest score. */
export interface PageChoice {
  readonly pages: readonly number[]
  readonly scores: readonly number[]
  readonly gap: number
}

/** q of a query head, one query. */
export function queryOf({ q, headDim }: ReferenceInput, head: number): Float64Array {
  return q.subarray(head * headDim, (head + 1) * headDim)
}

/** Key `token` of the KV head that a query head reads. */
export function keyOf(
  { k, kvHeads, queryHeads, keyLength, headDim }: ReferenceInput,
  head: number,
  token: number,
): Float64Array {
  const batch = Math.floor(head / queryHeads)
  const kvHead = batch * kvHeads + Math.floor(((head % queryHeads) * kvHeads) / queryHeads)
  const at = (kvHead * keyLength + token) * headDim
  return k.subarray(at, at + headDim)
}

/**
 * Quest's pages in plain loops (arXiv 2406.10774, §3.3), for the query heads of one list: Σ_c max(q_c · most_c, q_c · least_c), the
 * first page and the last kept, others by score until there are ⌈budget / P⌉, ties to the lower page.
 */
export function questPages(
  input: ReferenceInput,
  heads: readonly number[],
  pageSize: number,
  tokenBudget: number,
): PageChoice {
  const { keyLength, headDim } = input
  const count = Math.ceil(keyLength / pageSize)
  const scores = Array.from({ length: count }, (_, page) => {
    let sum = 0
    for (const head of heads) {
      const q = queryOf(input, head)
      for (let c = 0; c < headDim; c++) {
        let most = Number.NEGATIVE_INFINITY
        for (let token = page * pageSize; token < Math.min((page + 1) * pageSize, keyLength); token++)
          most = Math.max(most, q[c]! * keyOf(input, head, token)[c]!)
        sum += most
      }
    }
    return sum
  })
  const topK = Math.max(2, Math.ceil(tokenBudget / pageSize))
  const pages = scores.map((_, page) => page)
  if (count <= topK) return { pages, scores, gap: Number.POSITIVE_INFINITY }
  const others = pages.slice(1, -1).sort((a, b) => scores[b]! - scores[a]! || a - b)
  const largest = scores.reduce((most, score) => Math.max(most, Math.abs(score)), 0)
  const [last, next] = [others[topK - 3], others[topK - 2]]
  const gap =
    last === undefined || next === undefined
      ? Number.POSITIVE_INFINITY
      : (scores[last]! - scores[next]!) / (largest || 1)
  return { pages: [0, ...others.slice(0, topK - 2), count - 1].sort((a, b) => a - b), scores, gap }
}

/** What a key unpacks to when it is packed into few bits, a scale and a zero in half precision (arXiv 2502.02770, §4). */
export function estimatedKey(key: Float64Array, estimate: Estimate): Float64Array {
  if (estimate === 'exact') return key
  const levels = 2 ** estimate - 1
  const values = key.map((x) => Math.min(65504, Math.max(-65504, x)))
  const least = values.reduce((a, x) => Math.min(a, x))
  const most = values.reduce((a, x) => Math.max(a, x))
  const half = (x: number) => halfToFloat(floatToHalf(x))
  const scale = half(Math.max(Math.fround(Math.fround(most - least) / levels), 2 ** -14))
  const zero = half(least)
  return values.map((x) => {
    const n = roundHalfEven(Math.fround(Math.fround(x - zero) / scale))
    return zero + scale * Math.min(levels, Math.max(0, n))
  })
}

function roundHalfEven(x: number): number {
  const floor = Math.floor(x)
  if (x - floor !== 0.5) return Math.round(x)
  return floor % 2 === 0 ? floor : floor + 1
}
