import { blockGrid, bytesPerElement, type HostPlan, hasBlock } from '@sparse-attention/core'
import type { BenchInput } from './input.js'

/**
 * What keys and values take where each group of queries that shares a selection gathers its own, one after another: the
 * formulation of methods that have no kernel for their plans. Here they are read where they lie.
 *
 * @param plan on a dense path, or of blocks: counted as it stands
 */
export function gatheredBytes(plan: HostPlan, { headDim, dtype }: Pick<BenchInput, 'headDim' | 'dtype'>): number {
  return 2 * headDim * bytesPerElement[dtype] * gatheredKeys(plan)
}

function gatheredKeys(plan: HostPlan): number {
  const heads = plan.batch * plan.queryHeads
  let keys = 0
  switch (plan.kind) {
    case 'stripe': {
      const group = plan.queryHeads / plan.heads
      const perList = plan.counts.length / plan.lists.length
      for (const [i, count] of plan.counts.entries()) keys += count * plan.lists[Math.floor(i / perList)]!.width
      return keys * group
    }
    case 'block': {
      const { queryBlocks, keyBlocks } = blockGrid(plan)
      for (let row = 0; row < heads * queryBlocks; row++) {
        const [head, a] = [Math.floor(row / queryBlocks), row % queryBlocks]
        const [b, h] = [Math.floor(head / plan.queryHeads), head % plan.queryHeads]
        for (let c = 0; c < keyBlocks; c++)
          if (hasBlock(plan, b, h, a, c)) keys += Math.min(plan.blockK, plan.keyLength - c * plan.blockK)
      }
      return keys
    }
    case 'variable-block': {
      const { queryBlocks, keyBlocks, keyHeads, bitmap, keyStarts } = plan
      const words = Math.ceil(keyBlocks / 32)
      for (let row = 0; row < heads * queryBlocks; row++) {
        const keyHead = Math.floor((Math.floor(row / queryBlocks) * keyHeads) / plan.queryHeads)
        for (let c = 0; c < keyBlocks; c++) {
          if (((bitmap[row * words + (c >> 5)]! >>> (c & 31)) & 1) === 0) continue
          const at = keyHead * (keyBlocks + 1) + c
          keys += keyStarts[at + 1]! - keyStarts[at]!
        }
      }
      return keys
    }
  }
}
