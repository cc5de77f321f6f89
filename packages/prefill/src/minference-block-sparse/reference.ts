import type { Reference } from '@sparse-attention/testing'
import type { MinferenceBlockSparseOptions } from './method.js'

/**
 * The block-sparse pattern of MInference 1.0 in plain loops (arXiv 2407.02490, §3.2): means of blocks of queries and
 * keys, their scaled products, and in each row of blocks the forced ones, then the others by score, until k are kept.
 */
export const minferenceBlockSparseReference: Reference<MinferenceBlockSparseOptions> = (
  { q, k, batch, queryHeads, kvHeads, queryLength, keyLength, headDim, causal, scale },
  { topK, blockSize },
) => {
  const queryBlocks = Math.ceil(queryLength / blockSize)
  const keyBlocks = Math.ceil(keyLength / blockSize)
  const rows = batch * queryHeads * queryBlocks
  const scores = new Float64Array(rows * keyBlocks).fill(Number.NaN)
  const mass = new Float64Array(rows * keyBlocks)
  const kept = new Uint8Array(rows * keyBlocks)
  const forced = new Uint8Array(rows * keyBlocks)
  const gap = new Float64Array(rows).fill(Number.POSITIVE_INFINITY)
  const offset = keyLength - queryLength
  const qMeans = blockMeans(q, batch * queryHeads, queryLength, headDim, blockSize)
  const kMeans = blockMeans(k, batch * kvHeads, keyLength, headDim, blockSize)

  for (let row = 0; row < rows; row++) {
    const head = Math.floor(row / queryBlocks)
    const kvHead = Math.floor((head * kvHeads) / queryHeads)
    const a = row % queryBlocks
    const firstPosition = a * blockSize + offset
    const lastPosition = Math.min((a + 1) * blockSize, queryLength) - 1 + offset
    const others: number[] = []
    let room = topK
    for (let c = 0; c < keyBlocks; c++) {
      if (causal && c * blockSize > lastPosition) break
      let score = 0
      for (let d = 0; d < headDim; d++) {
        score += qMeans[row * headDim + d]! * kMeans[(kvHead * keyBlocks + c) * headDim + d]!
      }
      const at = row * keyBlocks + c
      scores[at] = Number.isNaN(score) ? Number.NEGATIVE_INFINITY : score * scale
      if (causal && (c === 0 || (c + 1) * blockSize > firstPosition)) {
        forced[at] = kept[at] = 1
        room--
      } else others.push(at)
    }
    others.sort((x, y) => (scores[x] === scores[y] ? x - y : scores[y]! - scores[x]!))
    const added = others.slice(0, Math.max(0, room))
    for (const at of added) kept[at] = 1
    const last = added.at(-1)
    const next = others[added.length]
    if (last !== undefined && next !== undefined) gap[row] = scores[last]! - scores[next]!

    // What a block would hold if its pairs all had the pooled score.
    const visible = scores.subarray(row * keyBlocks, (row + 1) * keyBlocks).filter((score) => !Number.isNaN(score))
    const top = Math.max(...visible)
    visible.forEach((score, c) => {
      mass[row * keyBlocks + c] = score === top ? 1 : Math.exp(score - top)
    })
  }
  return { blockQ: blockSize, blockK: blockSize, kept, forced, scores, gap, mass }
}

/** Means of blocks of rows, [heads, blocks, headDim]; the last block divides by the rows that it has. */
function blockMeans(x: Float64Array, heads: number, length: number, headDim: number, block: number): Float64Array {
  const blocks = Math.ceil(length / block)
  const means = new Float64Array(heads * blocks * headDim)
  for (let head = 0; head < heads; head++) {
    for (let row = 0; row < length; row++) {
      const n = Math.floor(row / block)
      const count = Math.min((n + 1) * block, length) - n * block
      for (let d = 0; d < headDim; d++) {
        means[(head * blocks + n) * headDim + d]! += x[(head * length + row) * headDim + d]! / count
      }
    }
  }
  return means
}
