import type { OptionValue } from '@sparse-attention/core'
import type { HeadRanking, Reference, ReferenceInput } from '@sparse-attention/testing'
import type { MinferenceVerticalSlashOptions } from './method.js'

const BLOCK = 64

/**
 * The vertical-slash pattern of MInference 1.0 in plain loops (arXiv 2407.02490, §3.2): softmax weights of the last 64
 * queries, summed per key and per distance; the heaviest of both; and for each 64 rows the tiles that cover the distances,
 * and the keys outside of them.
 */
export const minferenceVerticalSlashReference: Reference<MinferenceVerticalSlashOptions> = (
  input,
  { vertical, slash, sink, localWindow },
) => {
  const { batch, queryHeads, queryLength, keyLength, context } = input
  const heads = batch * queryHeads
  const queryBlocks = Math.ceil(queryLength / BLOCK)
  const kept = new Uint8Array(heads * queryBlocks * keyLength)
  const columns = emptyRanking('columns', heads, keyLength)
  const diagonals = emptyRanking('diagonals', heads, keyLength)

  for (let head = 0; head < heads; head++) {
    for (let row = Math.max(0, queryLength - 64); row < queryLength; row++) {
      const position = row + keyLength - queryLength
      const weights = softmaxRow(input, head, row)
      for (let key = 0; key <= position; key++) {
        columns.scores[head * keyLength + key]! += weights[key]!
        diagonals.scores[head * keyLength + position - key]! += weights[key]!
      }
    }
    const size = (option: OptionValue) =>
      typeof option === 'object' ? option[context.layer ?? 0]![head % queryHeads]! : Number(option)
    const verticals = choose(columns, head, Math.floor(size(vertical)), sink)
    const slashes = choose(diagonals, head, Math.floor(size(slash)), localWindow)

    for (let a = 0; a < queryBlocks; a++) {
      const cells = kept.subarray((head * queryBlocks + a) * keyLength, (head * queryBlocks + a + 1) * keyLength)
      const end = (a + 1) * BLOCK + keyLength - queryLength
      // Rows at end − 64 … end see distance o in keys end − 64 − o … end − o. From the nearest on, the first key that no
      // tile holds ends one.
      let first = Number.POSITIVE_INFINITY // of the last tile
      for (const o of slashes) {
        if (end - BLOCK - o >= first) continue
        const tileEnd = Math.min(end - o, first)
        first = tileEnd - BLOCK
        if (tileEnd > 0) cells.fill(1, Math.max(0, first), tileEnd)
      }
      for (const key of verticals) cells[key] = 1
    }
  }
  return { blockQ: BLOCK, blockK: 1, kept, headRankings: [columns, diagonals] }
}

/** Causal softmax of one row over its keys, f64; NaN counts as −∞. */
function softmaxRow(
  { q, k, queryHeads, kvHeads, queryLength, keyLength, headDim, scale }: ReferenceInput,
  head: number,
  row: number,
): Float64Array {
  const kvHead = Math.floor(head / (queryHeads / kvHeads))
  const visible = Math.max(0, row + keyLength - queryLength + 1)
  const scores = Float64Array.from({ length: visible }, (_, key) => {
    let score = 0
    for (let d = 0; d < headDim; d++) {
      score += q[(head * queryLength + row) * headDim + d]! * k[(kvHead * keyLength + key) * headDim + d]!
    }
    return Number.isNaN(score) ? Number.NEGATIVE_INFINITY : score * scale
  })
  const top = scores.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)
  const weights = scores.map((score) => (top === Number.NEGATIVE_INFINITY ? 0 : Math.exp(score - top)))
  const sum = weights.reduce((a, b) => a + b, 0)
  return sum === 0 ? weights : weights.map((weight) => weight / sum)
}

function emptyRanking(of: HeadRanking['of'], heads: number, keyLength: number): HeadRanking {
  const bytes = () => new Uint8Array(heads * keyLength)
  const gap = new Float64Array(heads).fill(Number.POSITIVE_INFINITY)
  return { of, kept: bytes(), forced: bytes(), scores: new Float64Array(heads * keyLength), gap }
}

/** Chooses the first `forced` entries of a head, then others by score, ties to the lower index; returns them ascending. */
function choose(ranking: HeadRanking, head: number, count: number, forced: number): number[] {
  const keyLength = ranking.kept.length / ranking.gap.length
  const scores = ranking.scores.subarray(head * keyLength, (head + 1) * keyLength)
  const entries = Array.from(scores.keys())
  const always = entries.slice(0, forced)
  const others = entries.slice(always.length)
  others.sort((x, y) => (scores[x] === scores[y] ? x - y : scores[y]! - scores[x]!))
  const added = others.slice(0, Math.max(0, count - always.length))
  for (const n of always) ranking.forced[head * keyLength + n] = 1
  const chosen = [...always, ...added].sort((x, y) => x - y)
  for (const n of chosen) ranking.kept[head * keyLength + n] = 1
  const [last, next] = [added.at(-1), others[added.length]]
  if (last !== undefined && next !== undefined) ranking.gap[head] = scores[last]! - scores[next]!
  return chosen
}
