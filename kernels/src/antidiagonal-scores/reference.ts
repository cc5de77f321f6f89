import type { AttentionShape } from '@sparse-attention/core'

/** Antidiagonal scores by their definition, f64 [B·Hq, ceil(Lq/S), ceil(Lk/S)]. */
export function antidiagonalScoresReference(
  shape: AttentionShape,
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  scale: number,
  stride: number,
): Float64Array {
  const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim } = shape
  const rows = Math.ceil(queryLength / stride)
  const columns = Math.ceil(keyLength / stride)
  const scores = new Float64Array(batch * queryHeads * rows * columns)
  for (let at = 0; at < scores.length; at++) {
    const v = at % columns
    const u = Math.floor(at / columns) % rows
    const head = Math.floor(at / columns / rows)
    const kvHead = Math.floor(head / queryHeads) * kvHeads + Math.floor(((head % queryHeads) * kvHeads) / queryHeads)
    for (let r = 0; r < stride; r++) {
      const i = u * stride + stride - 1 - r
      const j = v * stride + r
      if (i >= queryLength || j >= keyLength) continue
      for (let d = 0; d < headDim; d++) {
        scores[at]! += q[(head * queryLength + i) * headDim + d]! * k[(kvHead * keyLength + j) * headDim + d]!
      }
    }
    scores[at]! *= scale / stride
  }
  return scores
}
