import type { AttentionShape } from '@sparse-attention/core'

/** scale · q[h, rows[r]] · k[h, j], f64 [B·Hq, rows, Lk]; −∞ where the row does not see the key. */
export function sampledScoresReference(
  shape: AttentionShape,
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  rows: readonly number[],
  { causal, scale }: { causal: boolean; scale: number },
): Float64Array {
  const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim } = shape
  const scores = new Float64Array(batch * queryHeads * rows.length * keyLength)
  for (let at = 0; at < scores.length; at++) {
    const j = at % keyLength
    const row = rows[Math.floor(at / keyLength) % rows.length]!
    const head = Math.floor(at / keyLength / rows.length)
    const kvHead = Math.floor(head / (queryHeads / kvHeads))
    const exists = row >= 0 && row < queryLength
    if (!exists || (causal && j > row + keyLength - queryLength)) {
      scores[at] = Number.NEGATIVE_INFINITY
      continue
    }
    for (let d = 0; d < headDim; d++) {
      scores[at]! += q[(head * queryLength + row) * headDim + d]! * k[(kvHead * keyLength + j) * headDim + d]!
    }
    scores[at]! *= scale
  }
  return scores
}
