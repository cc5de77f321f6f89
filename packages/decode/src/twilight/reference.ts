import type { Reference, ReferenceInput } from '@sparse-attention/testing'
import type { Estimate } from '../selectors/page-selector.js'
import { estimatedKey, keyOf, type PageChoice, queryOf, questPages } from '../selectors/reference.js'
import type { TwilightOptions } from './method.js'

/** p is taken so much larger, relatively, so that rounding never leaves less than p. */
const MARGIN = 2 ** -16

/**
 * Twilight in plain loops (arXiv 2502.02770, §3, §4 and appendix B.2): pages by Quest; the softmax of estimated scores over their tokens
 * alone; the largest weights, ties and all, until they and the forced tokens hold p of it; the union over a KV head's query heads.
 */
export const twilightReference: Reference<TwilightOptions> = (input, options) => {
  const { batch, queryHeads, kvHeads, keyLength } = input
  const { pageSize, selector, tokenBudget } = options
  const rows = batch * queryHeads
  const scores = new Float64Array(rows * keyLength).fill(0)
  const mass = new Float64Array(rows * keyLength)
  const kept = new Uint8Array(rows * keyLength)
  const forced = new Uint8Array(rows * keyLength)
  const gap = new Float64Array(rows)
  const group = queryHeads / kvHeads
  for (let first = 0; first < rows; first += group) {
    const heads = Array.from({ length: group }, (_, n) => first + n)
    const choice = selector === 'quest' ? questPages(input, heads, pageSize, tokenBudget) : everyPage(input, pageSize)
    const tokens = choice.pages.flatMap((page) =>
      Array.from({ length: Math.min(pageSize, keyLength - page * pageSize) }, (_, i) => page * pageSize + i),
    )
    const isForced = (token: number) => token < pageSize || token === keyLength - 1
    const pruned = heads.map((head) => pruneHead(input, head, tokens, isForced, options))
    for (const head of heads) {
      const at = head * keyLength
      for (const { weights, total, keeps } of pruned) {
        for (const [n, token] of tokens.entries()) {
          mass[at + token]! += weights[n]! / (total || 1)
          if (keeps(n)) kept[at + token] = 1
          if (isForced(token)) forced[at + token] = 1
        }
      }
      scores.set(mass.subarray(at, at + keyLength), at)
      const largest = scores.subarray(at, at + keyLength).reduce((a, x) => Math.max(a, x), 0)
      // Each in units of its own largest number; a close call of one head of the group is one of all.
      gap[head] = Math.min(choice.gap, ...pruned.map((one) => one.gap)) * largest
    }
  }
  return { blockQ: 64, blockK: 1, kept, forced, scores, gap, mass }
}

function everyPage({ keyLength }: ReferenceInput, pageSize: number): PageChoice {
  const pages = Array.from({ length: Math.ceil(keyLength / pageSize) }, (_, page) => page)
  return { pages, scores: [], gap: Number.POSITIVE_INFINITY }
}

interface PrunedHead {
  /** e^(score − largest) of each token, and their sum. */
  readonly weights: readonly number[]
  readonly total: number
  keeps(n: number): boolean
  /** How close the decision was, in units of the largest weight. */
  readonly gap: number
}

function pruneHead(
  input: ReferenceInput,
  head: number,
  tokens: readonly number[],
  isForced: (token: number) => boolean,
  { topP, estimate }: Required<TwilightOptions>,
): PrunedHead {
  const table = Array.isArray(topP) ? (topP as number[][]) : undefined
  const p = (table ? table[input.context.layer ?? 0]![head % input.queryHeads]! : (topP as number)) * (1 + MARGIN)
  const q = queryOf(input, head)
  const logits = tokens.map((token) => {
    const key = estimatedKey(keyOf(input, head, token), estimate as Estimate)
    const score = input.scale * key.reduce((sum, x, d) => sum + x * q[d]!, 0)
    return Number.isNaN(score) ? Number.NEGATIVE_INFINITY : score
  })
  const largest = logits.reduce((a, x) => Math.max(a, x), Number.NEGATIVE_INFINITY)
  const weights = logits.map((x) => (x === Number.NEGATIVE_INFINITY ? 0 : Math.exp(x - largest)))
  const total = weights.reduce((sum, w) => sum + w, 0)
  if (p >= 1 || total === 0) return { weights, total, keeps: () => true, gap: Number.POSITIVE_INFINITY }
  const others = tokens.map((_, n) => n).filter((n) => !isForced(tokens[n]!))
  others.sort((a, b) => weights[b]! - weights[a]!)
  let sum = weights.reduce((all, w, n) => all + (isForced(tokens[n]!) ? w : 0), 0)
  let gap = Math.abs(sum - p * total)
  let cut = Number.POSITIVE_INFINITY
  for (let i = 0; i < others.length && sum < p * total; ) {
    const before = sum
    cut = weights[others[i]!]!
    // All ties at the cut are kept.
    while (i < others.length && weights[others[i]!] === cut) sum += weights[others[i++]!]!
    const next = others[i]
    gap = Math.min(
      p * total - before,
      Math.abs(sum - p * total),
      next === undefined ? Number.POSITIVE_INFINITY : cut - weights[next]!,
    )
  }
  return { weights, total, keeps: (n) => isForced(tokens[n]!) || weights[n]! >= cut, gap }
}
