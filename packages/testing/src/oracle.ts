import { type AttentionShape, lastVisibleKey } from '@sparse-attention/core'

/** Which keys a row reads: all, those under the bottom-right diagonal, or those set in a u8[B, Hq, Lq, Lk]. */
export type Mask = 'none' | 'causal' | Uint8Array

/** Attention over contiguous tensors on the host. Axes as in `ReferenceInput`. */
export interface AttentionProblem extends AttentionShape {
  /** [B, Hq, Lq, D] */
  readonly q: ArrayLike<number>
  /** [B, Hkv, Lk, D] */
  readonly k: ArrayLike<number>
  /** [B, Hkv, Lk, D] */
  readonly v: ArrayLike<number>
  /** Factor on QKᵀ. */
  readonly scale: number
  readonly mask: Mask
}

export interface AttentionAnswer<Values extends ArrayLike<number> = Float64Array> {
  /** [B, Hq, Lq, D]; 0 in rows that read no key */
  readonly out: Values
  /** [B, Hq, Lq] natural log; −∞ in rows that read no key */
  readonly lse: Values
}

/** The exact answer, and the size of what was summed to get it: rounding errors are proportional to that. */
export interface OracleAnswer extends AttentionAnswer {
  /** [B, Hq, Lq, D]: Σⱼ pⱼ·|vⱼ| */
  readonly outMagnitude: Float64Array
  /** [B, Hq, Lq]: Σⱼ pⱼ·scale·Σ_d |q_d·k_jd|, at least 1 */
  readonly lseMagnitude: Float64Array
}

/** Attention by its definition, in float64. What every other computation of it is measured against. */
export function attentionOracle(problem: AttentionProblem): OracleAnswer {
  const { headDim, scale } = problem
  // One type of array, whatever was given: the loops below are most of the time of a test run.
  const [q, k, v] = [problem.q, problem.k, problem.v].map((values) => Float64Array.from(values))
  const rows = problem.batch * problem.queryHeads * problem.queryLength
  const out = new Float64Array(rows * headDim)
  const outMagnitude = new Float64Array(rows * headDim)
  const lse = new Float64Array(rows).fill(Number.NEGATIVE_INFINITY)
  const lseMagnitude = new Float64Array(rows).fill(1)
  const logits = new Float64Array(problem.keyLength)
  const sizes = new Float64Array(problem.keyLength)

  forEachRow(problem, (row, firstKey, keys) => {
    const query = q!.subarray(row * headDim, (row + 1) * headDim)
    let max = Number.NEGATIVE_INFINITY
    for (const j of keys) {
      const at = (firstKey + j) * headDim
      logits[j] = scale * dot(query, k!, at)
      sizes[j] = Math.abs(scale) * dotOfSizes(query, k!, at)
      max = Math.max(max, logits[j]!) // NaN wins
    }
    let sum = 0
    for (const j of keys) sum += Math.exp(logits[j]! - max)
    lse[row] = max + Math.log(sum)
    const sums = out.subarray(row * headDim, (row + 1) * headDim)
    const magnitudes = outMagnitude.subarray(row * headDim, (row + 1) * headDim)
    let magnitude = 0
    for (const j of keys) {
      const p = Math.exp(logits[j]! - max) / sum
      magnitude += p * sizes[j]!
      accumulate(sums, magnitudes, p, v!, (firstKey + j) * headDim)
    }
    lseMagnitude[row] = Math.max(1, magnitude)
  })
  return { out, lse, outMagnitude, lseMagnitude }
}

function dot(query: Float64Array, keys: Float64Array, at: number): number {
  let sum = 0
  for (let d = 0; d < query.length; d++) sum += query[d]! * keys[at + d]!
  return sum
}

function dotOfSizes(query: Float64Array, keys: Float64Array, at: number): number {
  let sum = 0
  for (let d = 0; d < query.length; d++) sum += Math.abs(query[d]! * keys[at + d]!)
  return sum
}

function accumulate(sums: Float64Array, magnitudes: Float64Array, p: number, values: Float64Array, at: number): void {
  for (let d = 0; d < sums.length; d++) {
    const term = p * values[at + d]!
    sums[d]! += term
    magnitudes[d]! += Math.abs(term)
  }
}

/**
 * Calls `visit` for each row that reads a key: its index in [B, Hq, Lq], the index in [B, Hkv, Lk] of its head's key 0,
 * and the keys that it reads, ascending.
 */
export function forEachRow(
  problem: AttentionProblem,
  visit: (row: number, firstKey: number, keys: Int32Array) => void,
): void {
  const { batch, queryHeads, kvHeads, queryLength, keyLength, mask } = problem
  const keys = new Int32Array(keyLength)
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < queryHeads; h++) {
      const kvHead = Math.floor((h * kvHeads) / queryHeads)
      for (let i = 0; i < queryLength; i++) {
        const row = (b * queryHeads + h) * queryLength + i
        let count = 0
        if (typeof mask === 'string') {
          const last = lastVisibleKey({ queryLength, keyLength, causal: mask === 'causal' }, i)
          for (let j = 0; j <= last; j++) keys[count++] = j
        } else {
          for (let j = 0; j < keyLength; j++) if (mask[row * keyLength + j] !== 0) keys[count++] = j
        }
        if (count > 0) visit(row, (b * kvHeads + kvHead) * keyLength, keys.subarray(0, count))
      }
    }
  }
}
