import type { AttentionShape } from '@sparse-attention/core'
import { columnSumsReference } from '../column-sums/reference.js'
import { diagonalSumsReference } from '../diagonal-sums/reference.js'
import { sampledScoresReference } from '../sampled-scores/reference.js'

/** Softmax weights of the rows, summed per key and per distance, f64 [B·Hq, Lk] each. */
export function sampledWeightsReference(
  shape: AttentionShape,
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  rows: readonly number[],
  options: { causal: boolean; scale: number },
): { columns: Float64Array; diagonals: Float64Array } {
  const scores = sampledScoresReference(shape, q, k, rows, options)
  const positions = rows.map((row) => row + shape.keyLength - shape.queryLength)
  return {
    columns: columnSumsReference(scores, rows.length, shape.keyLength),
    diagonals: diagonalSumsReference(scores, positions, shape.keyLength),
  }
}
