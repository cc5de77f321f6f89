import type { AttentionShape } from '@sparse-attention/core'

/**
 * For each strided row and key block, the largest of the antidiagonal scores that the row sees and Σ exp(score − largest),
 * f64 [B·Hq, ceil(Lq/S), ceil(Lk/block), 2], by their definition; of a block of which it sees none, −∞ and 0.
 */
export function antidiagonalStatisticsReference(
  shape: AttentionShape,
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  { scale, causal, stride, block }: { scale: number; causal: boolean; stride: number; block: number },
): Float64Array {
  const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim } = shape
  const rows = Math.ceil(queryLength / stride)
  const columns = Math.ceil(keyLength / stride)
  const keyBlocks = Math.ceil(keyLength / block)
  const statistics = new Float64Array(batch * queryHeads * rows * keyBlocks * 2)
  for (let at = 0; at < statistics.length; at += 2) {
    const c = (at / 2) % keyBlocks
    const u = Math.floor(at / 2 / keyBlocks) % rows
    const head = Math.floor(at / 2 / keyBlocks / rows)
    const kvHead = Math.floor(head / queryHeads) * kvHeads + Math.floor(((head % queryHeads) * kvHeads) / queryHeads)
    const scores: number[] = []
    for (let v = (c * block) / stride; v < Math.min(columns, ((c + 1) * block) / stride); v++) {
      if (causal && v * stride > u * stride + stride - 1 + keyLength - queryLength) continue
      let sum = 0
      for (let r = 0; r < stride; r++) {
        const i = u * stride + stride - 1 - r
        const j = v * stride + r
        if (i >= queryLength || j >= keyLength) continue
        for (let d = 0; d < headDim; d++) {
          sum += q[(head * queryLength + i) * headDim + d]! * k[(kvHead * keyLength + j) * headDim + d]!
        }
      }
      if (!Number.isNaN(sum)) scores.push((sum * scale) / stride)
    }
    const largest = Math.max(...scores)
    statistics[at] = largest
    statistics[at + 1] = scores.reduce((sum, score) => sum + Math.exp(score - largest), 0)
  }
  return statistics
}
