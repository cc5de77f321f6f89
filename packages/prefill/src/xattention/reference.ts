import type { Reference } from '@sparse-attention/testing'
import type { XAttentionOptions } from './method.js'

/**
 * XAttention's selection in plain loops (arXiv 2503.16428, §2 and Algorithm 1): antidiagonal sums, softmax over
 * strided columns, sums per block, then blocks by weight until τ of the row's total is reached.
 */
export const xattentionReference: Reference<XAttentionOptions> = (input, { threshold, stride, blockSize }) => {
  const { batch, queryHeads, queryLength, keyLength, causal } = input
  const queryBlocks = Math.ceil(queryLength / blockSize)
  const keyBlocks = Math.ceil(keyLength / blockSize)
  const blocks = batch * queryHeads * queryBlocks * keyBlocks
  const scores = new Float64Array(blocks).fill(Number.NaN)
  const kept = new Uint8Array(blocks)
  const forced = new Uint8Array(blocks)
  const gap = new Float64Array(batch * queryHeads * queryBlocks)
  const target = new Float64Array(gap.length)
  const offset = keyLength - queryLength

  for (let head = 0; head < batch * queryHeads; head++) {
    const table = Array.isArray(threshold) ? (threshold as number[][]) : undefined
    const tau = table ? table[input.context.layer ?? 0]![head % queryHeads]! : (threshold as number)
    const sums = blockSums(input, head, stride, blockSize)
    for (let a = 0; a < queryBlocks; a++) {
      const firstPosition = a * blockSize + offset
      const lastPosition = Math.min((a + 1) * blockSize, queryLength) - 1 + offset
      const isVisible = (c: number) => !causal || c * blockSize <= lastPosition
      const isForced = (c: number) => causal && isVisible(c) && (c === 0 || (c + 1) * blockSize > firstPosition)
      const candidates = Array.from({ length: keyBlocks }, (_, c) => c).filter(isVisible)
      const row = head * queryBlocks + a
      for (const c of candidates) {
        scores[row * keyBlocks + c] = sums[a]![c]!
        forced[row * keyBlocks + c] = isForced(c) ? 1 : 0
      }
      const selection = topP(candidates, (c) => sums[a]![c]!, isForced, tau)
      for (const c of selection.kept) kept[row * keyBlocks + c] = 1
      gap[row] = selection.gap
      target[row] = selection.target
    }
  }
  return { blockQ: blockSize, blockK: blockSize, kept, forced, scores, gap, target }
}

/** A[a][c]: the softmax of antidiagonal scores, summed over the strided cells of each block. */
function blockSums(
  { q, k, queryHeads, kvHeads, queryLength, keyLength, headDim, causal, scale }: Parameters<Reference>[0],
  head: number,
  stride: number,
  blockSize: number,
): number[][] {
  const batch = Math.floor(head / queryHeads)
  const kvHead = batch * kvHeads + Math.floor(((head % queryHeads) * kvHeads) / queryHeads)
  const rows = Math.ceil(queryLength / stride)
  const columns = Math.ceil(keyLength / stride)
  const perBlock = blockSize / stride
  const sums = Array.from({ length: Math.ceil(queryLength / blockSize) }, () =>
    new Array<number>(Math.ceil(keyLength / blockSize)).fill(0),
  )
  for (let u = 0; u < rows; u++) {
    const lastVisible = u * stride + stride - 1 + keyLength - queryLength
    const row: number[] = []
    for (let v = 0; v < columns && (!causal || v * stride <= lastVisible); v++) {
      let x = 0
      for (let r = 0; r < stride; r++) {
        const i = u * stride + stride - 1 - r
        const j = v * stride + r
        if (i >= queryLength || j >= keyLength) continue
        for (let d = 0; d < headDim; d++) {
          x += q[(head * queryLength + i) * headDim + d]! * k[(kvHead * keyLength + j) * headDim + d]!
        }
      }
      row.push(Number.isNaN(x) ? Number.NEGATIVE_INFINITY : (x * scale) / stride)
    }
    const top = Math.max(...row)
    if (top === Number.NEGATIVE_INFINITY) continue
    const weights = row.map((x) => Math.exp(x - top))
    const total = weights.reduce((sum, w) => sum + w, 0)
    weights.forEach((w, v) => {
      sums[Math.floor(u / perBlock)]![Math.floor(v / perBlock)]! += w / total
    })
  }
  return sums
}

/** Forced first, then by weight, ties to the lower index; an entry is kept while the sum before it is below τ · T. */
function topP(
  candidates: readonly number[],
  weight: (c: number) => number,
  isForced: (c: number) => boolean,
  tau: number,
): { kept: number[]; gap: number; target: number } {
  const total = candidates.reduce((sum, c) => sum + weight(c), 0)
  if (tau >= 1 || total === 0) return { kept: [...candidates], gap: Number.POSITIVE_INFINITY, target: total }
  const kept = candidates.filter(isForced)
  const others = candidates.filter((c) => !isForced(c)).sort((a, b) => weight(b) - weight(a) || a - b)
  const wanted = tau * total
  let before = kept.reduce((sum, c) => sum + weight(c), 0)
  let gap = Math.abs(wanted - before)
  for (const [index, c] of others.entries()) {
    if (!(before < wanted)) break
    kept.push(c)
    const next = others[index + 1]
    const after = before + weight(c)
    gap = Math.min(
      wanted - before,
      Math.abs(after - wanted),
      next === undefined ? Number.POSITIVE_INFINITY : weight(c) - weight(next),
    )
    before = after
  }
  return { kept, gap: others.length === 0 ? Number.POSITIVE_INFINITY : gap, target: wanted }
}
