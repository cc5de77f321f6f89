import { type BlockPlanData, blockGrid, type Dispatch, type Runtime } from '@sparse-attention/core'
import { blockGridValues } from '../shared/block-plan.js'
import { packUniforms } from '../shared/uniforms.js'
import { emitForcedBlocks, forcedBlocksUniforms } from './emit.js'

export interface ForcedBlocksOptions {
  /** Key blocks kept at the start of the sequence. */
  readonly sinkBlocks: number
  /** Keep the blocks that hold the queries' own positions. */
  readonly diagonal: boolean
  /**
   * With `diagonal`: keep every block that holds one of the last so many keys up to a query's own. Default 1. The diagonal
   * block and n blocks before it: n · block_k + 1.
   */
  readonly localWindow?: number
}

export type ForcedBlocks = (plan: BlockPlanData) => Dispatch

/**
 * Starts a block plan with the blocks that are kept whatever their score: writes every word of the bitmap. Selections
 * add to it. Blocks without a visible pair are never set.
 *
 * Cost: the bitmap written once.
 */
export async function forcedBlocks(
  runtime: Runtime,
  causal: boolean,
  { sinkBlocks, diagonal, localWindow = 1 }: ForcedBlocksOptions,
): Promise<ForcedBlocks> {
  const kernel = await runtime.kernel(emitForcedBlocks(causal))
  return (plan) => {
    const { queryBlocks, wordsPerRow } = blockGrid(plan)
    const heads = plan.batch * plan.queryHeads
    const uniforms = packUniforms(forcedBlocksUniforms, {
      ...blockGridValues(plan),
      sink_blocks: sinkBlocks,
      local_window: diagonal ? localWindow : 0,
    })
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), plan.bitmap],
      workgroups: [Math.ceil(wordsPerRow / 64), queryBlocks, heads],
      cost: { operations: 0, bytes: heads * queryBlocks * wordsPerRow * 4 },
    }
  }
}
