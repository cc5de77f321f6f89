/** scale · q̄[h, a] · k̄[h / g, c] of contiguous means, f64 [batch · queryHeads, queryBlocks, keyBlocks]. */
export function pooledScoresReference(
  qMeans: ArrayLike<number>,
  kMeans: ArrayLike<number>,
  shape: { batch: number; queryHeads: number; kvHeads: number; headDim: number },
  { queryBlocks, keyBlocks }: { queryBlocks: number; keyBlocks: number },
  scale: number,
): Float64Array {
  const { batch, queryHeads, kvHeads, headDim } = shape
  const scores = new Float64Array(batch * queryHeads * queryBlocks * keyBlocks)
  for (let at = 0; at < scores.length; at++) {
    const c = at % keyBlocks
    const row = Math.floor(at / keyBlocks)
    const head = Math.floor(row / queryBlocks)
    const kvHead = Math.floor(head / (queryHeads / kvHeads))
    for (let d = 0; d < headDim; d++) {
      scores[at]! += qMeans[row * headDim + d]! * kMeans[(kvHead * keyBlocks + c) * headDim + d]!
    }
    scores[at]! *= scale
  }
  return scores
}
