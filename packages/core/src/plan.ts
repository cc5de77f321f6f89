import type { BufferSlice } from './tensor.js'

/** Nothing is skipped. */
export interface DensePlanData {
  readonly kind: 'dense'
}

/**
 * Canonical block plan: bit c%32 of word [b, h, a, c/32] says that query block a of query head h computes key block c.
 * Block sizes are in tokens; the last block of a ragged length is short. u32[B, Hq, nq, ceil(nk/32)], contiguous.
 */
export interface BlockPlanData {
  readonly kind: 'block'
  readonly bitmap: BufferSlice
  readonly batch: number
  readonly queryHeads: number
  readonly queryLength: number
  readonly keyLength: number
  readonly blockQ: number
  readonly blockK: number
  readonly causal: boolean
}

export type PlanData = DensePlanData | BlockPlanData

/** Geometry of a block plan: how many blocks, and how many words a row of them takes. */
export function blockGrid(plan: Pick<BlockPlanData, 'queryLength' | 'keyLength' | 'blockQ' | 'blockK'>): {
  queryBlocks: number
  keyBlocks: number
  wordsPerRow: number
} {
  const keyBlocks = Math.ceil(plan.keyLength / plan.blockK)
  return { queryBlocks: Math.ceil(plan.queryLength / plan.blockQ), keyBlocks, wordsPerRow: Math.ceil(keyBlocks / 32) }
}

/** A block plan on the host: what `plan.read()` returns, and what pictures and tests work on. */
export interface HostBlockPlan extends Omit<BlockPlanData, 'bitmap' | 'kind'> {
  /** u32[B, Hq, nq, ceil(nk/32)] */
  readonly bitmap: Uint32Array
}

/** Is key block c of query block a of head h in the plan? */
export function hasBlock(plan: HostBlockPlan, batch: number, head: number, a: number, c: number): boolean {
  const { queryBlocks, wordsPerRow } = blockGrid(plan)
  const word = ((batch * plan.queryHeads + head) * queryBlocks + a) * wordsPerRow + (c >> 5)
  return ((plan.bitmap[word]! >>> (c & 31)) & 1) === 1
}

/** Last key that query row i sees under bottom-right causality, −1 for none. */
export function lastVisibleKey(plan: { queryLength: number; keyLength: number; causal: boolean }, row: number): number {
  return plan.causal ? Math.min(plan.keyLength - 1, row + plan.keyLength - plan.queryLength) : plan.keyLength - 1
}

/** Counts of query–key pairs: `kept` by the plan and `visible` under the causal rule, summed over batch and heads. */
export function countPairs(plan: HostBlockPlan): { kept: number; visible: number } {
  const { queryBlocks, keyBlocks } = blockGrid(plan)
  let kept = 0
  let visible = 0
  for (let a = 0; a < queryBlocks; a++) {
    for (let c = 0; c < keyBlocks; c++) {
      const pairs = visiblePairs(plan, a, c)
      if (pairs === 0) continue
      visible += pairs * plan.batch * plan.queryHeads
      for (let b = 0; b < plan.batch; b++) {
        for (let h = 0; h < plan.queryHeads; h++) if (hasBlock(plan, b, h, a, c)) kept += pairs
      }
    }
  }
  return { kept, visible }
}

/** Visible query–key pairs inside block (a, c). */
function visiblePairs(plan: HostBlockPlan, a: number, c: number): number {
  const firstRow = a * plan.blockQ
  const endRow = Math.min(firstRow + plan.blockQ, plan.queryLength)
  const firstKey = c * plan.blockK
  const endKey = Math.min(firstKey + plan.blockK, plan.keyLength)
  if (!plan.causal) return (endRow - firstRow) * (endKey - firstKey)
  let pairs = 0
  for (let row = firstRow; row < endRow; row++) {
    pairs += Math.max(0, Math.min(endKey, lastVisibleKey(plan, row) + 1) - firstKey)
  }
  return pairs
}

/** The plan as a dense mask u8[B, Hq, Lq, Lk]: 1 where the pair is computed (causality included). */
export function denseMask(plan: HostBlockPlan): Uint8Array {
  const { batch, queryHeads, queryLength, keyLength } = plan
  const mask = new Uint8Array(batch * queryHeads * queryLength * keyLength)
  let at = 0
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < queryHeads; h++) {
      for (let row = 0; row < queryLength; row++, at += keyLength) {
        const end = lastVisibleKey(plan, row) + 1
        const a = Math.floor(row / plan.blockQ)
        for (let c = 0; c * plan.blockK < end; c++) {
          if (!hasBlock(plan, b, h, a, c)) continue
          mask.fill(1, at + c * plan.blockK, at + Math.min((c + 1) * plan.blockK, end))
        }
      }
    }
  }
  return mask
}
