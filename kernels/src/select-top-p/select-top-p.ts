import { type BlockPlanData, type BufferSlice, blockGrid, type Dispatch, type Runtime } from '@sparse-attention/core'
import { blockGridValues } from '../shared/block-plan.js'
import { packUniforms } from '../shared/uniforms.js'
import { emitSelectTopP, selectTopPUniforms } from './emit.js'

/**
 * @param weights f32 [B·Hq, nq, nk], not negative; NaN counts as 0
 * @param topP    f32 [layers · Hq], one p a head
 * @param plan    holds the forced blocks; the selection is added to it
 */
export type SelectTopP = (plan: BlockPlanData, weights: BufferSlice, topP: BufferSlice, layer: number) => Dispatch

/**
 * Adds to each row of a block plan the blocks of largest weight until they hold a share p of the row's total: a block
 * is kept while the sum before it is below p · total, forced blocks counting first, ties going to the lower index.
 * Rows without weight and rows with p ≥ 1 keep every visible block.
 *
 * Cost: 33 passes over the weights, which stay in the cache: one read of them and of the bitmap in device memory.
 */
export async function selectTopP(runtime: Runtime, causal: boolean): Promise<SelectTopP> {
  const kernel = await runtime.kernel(emitSelectTopP(causal))
  return (plan, weights, topP, layer) => {
    const { queryBlocks, keyBlocks, wordsPerRow } = blockGrid(plan)
    const heads = plan.batch * plan.queryHeads
    const uniforms = packUniforms(selectTopPUniforms, {
      ...blockGridValues(plan),
      query_heads: plan.queryHeads,
      first_p: layer * plan.queryHeads,
    })
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), weights, topP, plan.bitmap],
      workgroups: [queryBlocks, heads, 1],
      cost: {
        operations: 33 * heads * queryBlocks * keyBlocks,
        bytes: heads * queryBlocks * (keyBlocks + 2 * wordsPerRow) * 4,
      },
    }
  }
}
