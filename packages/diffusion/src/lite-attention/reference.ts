import { type BlockGeometry, blockGrid } from '@sparse-attention/core'
import type { Reference, ReferenceInput } from '@sparse-attention/testing'
import type { LiteAttentionOptions } from './method.js'
import { thresholdOf } from './threshold.js'

const blockK = 64

/** What a video's earlier steps have left of the blocks, as the method carries it. Starts with everything. */
export interface LiteAttentionMemory {
  /** u8[B, Hq, nq, nk] */
  needed?: Uint8Array
}

export interface LiteAttentionStep {
  /** u8[B, Hq, nq, nk]: computed in this step. */
  readonly kept: Uint8Array
  /** u8[B, Hq, nq, nk]: in, whatever the votes. */
  readonly forced: Uint8Array
  /** How close the closest vote was, in powers of two. */
  readonly margin: number
}

/**
 * One step in plain loops, float64: computes the blocks that are carried or forced, in ascending order, and carries those on in
 * which some row's largest score comes within the threshold of the row's maximum before the block.
 */
export function liteAttentionStep(
  input: ReferenceInput,
  { threshold, denseSteps, denseLayers, mustDoFirst, mustDoLast, blockQ }: Required<LiteAttentionOptions>,
  memory: LiteAttentionMemory,
): LiteAttentionStep {
  const { batch, queryHeads, kvHeads, queryLength, keyLength, context } = input
  const geometry: BlockGeometry = { ...input, blockQ, blockK }
  const { queryBlocks, keyBlocks } = blockGrid(geometry)
  const blocks = batch * queryHeads * queryBlocks * keyBlocks
  const [kept, forced, needed] = [new Uint8Array(blocks), new Uint8Array(blocks), new Uint8Array(blocks)]
  if ((context.step ?? 0) < denseSteps || (context.layer ?? 0) < denseLayers) {
    return { kept: kept.fill(1), forced, margin: Number.POSITIVE_INFINITY }
  }
  const limit = thresholdOf(threshold, context)
  const tokens = context.grid?.reduce((product, size) => product * size, 1) ?? keyLength
  let margin = Number.POSITIVE_INFINITY
  for (let bh = 0; bh < batch * queryHeads; bh++) {
    const kvHead = Math.floor(bh / queryHeads) * kvHeads + Math.floor(((bh % queryHeads) * kvHeads) / queryHeads)
    for (let a = 0; a < queryBlocks; a++) {
      const rows = Math.min(blockQ, queryLength - a * blockQ)
      const textRow = queryLength === keyLength && a * blockQ + rows > tokens
      const largest = new Float64Array(rows).fill(Number.NEGATIVE_INFINITY)
      for (let c = 0; c < keyBlocks; c++) {
        const at = (bh * queryBlocks + a) * keyBlocks + c
        const end = Math.min((c + 1) * blockK, keyLength)
        const must = c * blockK < mustDoFirst || end > keyLength - mustDoLast || end > tokens || textRow
        forced[at] = Number(must)
        kept[at] = Number(must || (memory.needed?.[at] ?? 1) === 1)
        if (kept[at] === 0) continue
        for (let r = 0; r < rows; r++) {
          const before = largest[r]!
          let top = Number.NEGATIVE_INFINITY
          for (let key = c * blockK; key < end; key++)
            top = Math.max(top, score(input, bh, a * blockQ + r, kvHead, key))
          const above = (top - before) * Math.LOG2E - limit
          if (above > 0) needed[at] = 1
          margin = Math.min(margin, Math.abs(above))
          largest[r] = Math.max(before, top)
        }
      }
    }
  }
  memory.needed = needed
  return { kept, forced, margin }
}

/** The first call of a video: everything is computed. What later ones leave out is `liteAttentionStep`'s. */
export const liteAttentionReference: Reference<LiteAttentionOptions> = (input, options) => {
  const { batch, queryHeads } = input
  const { queryBlocks, keyBlocks } = blockGrid({ ...input, blockQ: options.blockQ, blockK })
  const kept = new Uint8Array(batch * queryHeads * queryBlocks * keyBlocks).fill(1)
  return { blockQ: options.blockQ, blockK, kept }
}

function score(
  { q, k, headDim, queryLength, keyLength, scale }: ReferenceInput,
  bh: number,
  row: number,
  kvHead: number,
  key: number,
): number {
  let sum = 0
  for (let d = 0; d < headDim; d++) {
    sum += q[(bh * queryLength + row) * headDim + d]! * k[(kvHead * keyLength + key) * headDim + d]!
  }
  return scale * sum
}
