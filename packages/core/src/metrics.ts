/**
 * Recall of a selection: the share of softmax mass that it keeps, per row exp(lse_plan − lse_dense), averaged over the
 * rows that see at least one key.
 *
 * @param lse       [rows] natural log, of the sparse run
 * @param denseLse  [rows] natural log, of a dense run on the same tensors
 */
export function recall(lse: Float32Array, denseLse: Float32Array): number {
  let sum = 0
  let rows = 0
  for (let i = 0; i < lse.length; i++) {
    if (denseLse[i] === Number.NEGATIVE_INFINITY) continue
    sum += Math.min(1, Math.exp(lse[i]! - denseLse[i]!))
    rows++
  }
  return rows === 0 ? 1 : sum / rows
}

/** ‖actual − expected‖₂ ÷ ‖expected‖₂. NaN anywhere gives NaN. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let difference = 0
  let norm = 0
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2
    norm += expected[i]! ** 2
  }
  return norm === 0 ? Math.sqrt(difference) : Math.sqrt(difference / norm)
}
