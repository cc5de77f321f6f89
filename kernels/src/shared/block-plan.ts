import { type AttentionFrame, type BlockPlanData, blockGrid, planElements } from '@sparse-attention/core'
import type { blockGridUniforms } from './blocks.js'

/** An unwritten block plan for a call, in the attention's own plan memory. */
export function newBlockPlan(frame: AttentionFrame, blockQ: number, blockK: number): BlockPlanData {
  const { batch, queryHeads, queryLength, keyLength, causal } = frame
  const form = { kind: 'block', batch, queryHeads, queryLength, keyLength, blockQ, blockK, causal } as const
  return { ...form, bitmap: frame.planBuffer(4 * planElements(form).bitmap) }
}

export function blockGridValues(plan: BlockPlanData): Record<keyof typeof blockGridUniforms, number> {
  const { queryBlocks, keyBlocks, wordsPerRow } = blockGrid(plan)
  return {
    query_length: plan.queryLength,
    query_offset: plan.keyLength - plan.queryLength,
    block_q: plan.blockQ,
    block_k: plan.blockK,
    query_blocks: queryBlocks,
    key_blocks: keyBlocks,
    words: wordsPerRow,
  }
}
