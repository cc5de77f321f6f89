import { forEachPlanRows, type HostPlan, Random } from '@sparse-attention/core'
import type { BenchInput } from './input.js'

/** Rows that are computed again on the host: enough to find a kernel that is wrong somewhere, few enough for any length. */
const rowCount = 24

interface Row {
  readonly batch: number
  readonly head: number
  readonly row: number
  /** First and end of ranges of keys that it attends to. */
  keys: readonly number[]
}

export interface CheckedAnswer {
  /** [B, H, L, D] */
  readonly out: Float32Array
  /** [B, H, L]; absent where the answer has none. */
  readonly lse?: Float32Array
  /** What was selected; absent: everything visible. */
  readonly plan?: HostPlan
}

/**
 * What a computation may be off by and still count as right, as ‖out − exact‖₂ ÷ ‖exact‖₂ over the rows checked. Sums of
 * float32 over tens of thousands of keys lose up to 1e-5, products and sums of halves up to a few 1e-3; a wrong mask, head
 * or key is off by far more.
 */
export const allowedError: Readonly<Record<BenchInput['dtype'], number>> = { f32: 1e-4, f16: 1e-2 }

/**
 * Computes some rows of attention over a selection in float64, seeded: the first and the last row of the first and the last
 * head, and others.
 *
 * @returns ‖out − exact‖₂ ÷ ‖exact‖₂ over these rows, or the largest difference in their LSE, whichever is larger; NaN for
 *   an answer that holds NaN
 */
export function errorOfRows(
  input: BenchInput,
  { causal, scale, seed }: { readonly causal: boolean; readonly scale: number; readonly seed: number },
  { out, lse, plan }: CheckedAnswer,
): number {
  const { queryHeads, kvHeads, queryLength, keyLength, headDim } = input
  const rows = chooseRows(input, new Random(seed))
  if (plan) {
    forEachPlanRows(plan, ({ batch, head, firstRow, endRow, keys }) => {
      for (const row of rows) {
        if (row.batch === batch && row.head === head && row.row >= firstRow && row.row < endRow) row.keys = [...keys]
      }
    })
  }
  let [difference, magnitude, lseDifference] = [0, 0, 0]
  for (const row of rows) {
    const end = causal ? Math.min(keyLength, row.row + keyLength - queryLength + 1) : keyLength
    const kvHead = Math.floor((row.head * kvHeads) / queryHeads)
    const queryAt = ((row.batch * queryLength + row.row) * queryHeads + row.head) * headDim
    const keyAt = (key: number) => ((row.batch * keyLength + key) * kvHeads + kvHead) * headDim
    const query = input.q.subarray(queryAt, queryAt + headDim)
    const exact = attendRow(query, { k: input.k, v: input.v, at: keyAt }, row.keys, end, scale)
    const at = (row.batch * queryHeads + row.head) * queryLength + row.row
    for (let d = 0; d < headDim; d++) {
      difference += (out[at * headDim + d]! - exact.out[d]!) ** 2
      magnitude += exact.out[d]! ** 2
    }
    if (lse && Number.isFinite(exact.lse)) lseDifference = worst(lseDifference, Math.abs(lse[at]! - exact.lse))
  }
  return worst(Math.sqrt(difference / Math.max(magnitude, Number.MIN_VALUE)), lseDifference)
}

/** The larger one; NaN is the largest. */
export function worst(a: number, b: number): number {
  return Number.isNaN(a) || Number.isNaN(b) ? Number.NaN : Math.max(a, b)
}

function chooseRows({ batch, queryHeads, queryLength, keyLength }: BenchInput, random: Random): Row[] {
  const [lastHead, lastRow] = [queryHeads - 1, queryLength - 1]
  const corners = [
    [0, 0, 0],
    [0, 0, lastRow],
    [batch - 1, lastHead, 0],
    [batch - 1, lastHead, lastRow],
  ]
  const others = Array.from({ length: rowCount - corners.length }, () => [
    random.integer(batch),
    random.integer(queryHeads),
    random.integer(queryLength),
  ])
  return [...corners, ...others].map(([b, head, row]) => ({ batch: b!, head: head!, row: row!, keys: [0, keyLength] }))
}

/** Keys and values of one head, wherever they lie in their arrays. */
export interface HeadMemory {
  readonly k: Float32Array
  readonly v: Float32Array
  /** Where the first number of a key's row stands. */
  at(key: number): number
}

/**
 * One row of attention in float64.
 *
 * @param query [D]
 * @param keys first and end of ranges of keys that it attends to
 * @param end keys before it are visible
 */
export function attendRow(
  query: Float32Array,
  { k, v, at }: HeadMemory,
  keys: readonly number[],
  end: number,
  scale: number,
): { readonly out: Float64Array; readonly lse: number } {
  const headDim = query.length
  const out = new Float64Array(headDim)
  let top = Number.NEGATIVE_INFINITY
  let sum = 0
  for (let range = 0; range < keys.length; range += 2) {
    for (let key = keys[range]!; key < Math.min(keys[range + 1]!, end); key++) {
      const from = at(key)
      let score = 0
      for (let d = 0; d < headDim; d++) score += query[d]! * k[from + d]!
      score *= scale
      if (score > top) {
        const rescale = Math.exp(top - score)
        sum *= rescale
        for (let d = 0; d < headDim; d++) out[d]! *= rescale
        top = score
      }
      const weight = Math.exp(score - top)
      sum += weight
      for (let d = 0; d < headDim; d++) out[d]! += weight * v[from + d]!
    }
  }
  if (sum > 0) for (let d = 0; d < headDim; d++) out[d]! /= sum
  return { out, lse: top + Math.log(sum) }
}
