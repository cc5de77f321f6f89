import { type BlockPlanData, type BufferSlice, blockGrid, type Dispatch, type Runtime } from '@sparse-attention/core'
import { blockGridValues } from '../shared/block-plan.js'
import type { ScoreChunk } from '../shared/strided.js'
import { packUniforms } from '../shared/uniforms.js'
import { emitSelectTopK, selectTopKUniforms } from './emit.js'

/**
 * @param plan   holds the forced blocks; the selection is added to the chunk's rows
 * @param chunk  rows of query blocks to select in; columns are all key blocks
 * @param scores f32 [B·Hq, chunk.rows, nk], any sign; NaN counts as −∞; cells without a visible pair are not looked at
 * @param topK   blocks that a row keeps, forced ones included
 */
export type SelectTopK = (plan: BlockPlanData, chunk: ScoreChunk, scores: BufferSlice, topK: number) => Dispatch

/**
 * Adds to each row of a block plan the blocks of largest score until it holds k blocks, forced ones included, ties going
 * to the lower index. Rows with at most k visible blocks keep them all; forced blocks stay even where they are more than k.
 *
 * Cost: 6 passes over the scores, which stay in the cache: one read of them and of the bitmap in device memory.
 */
export async function selectTopK(runtime: Runtime, causal: boolean): Promise<SelectTopK> {
  const kernel = await runtime.kernel(emitSelectTopK(causal))
  return (plan, chunk, scores, topK) => {
    const { keyBlocks, wordsPerRow } = blockGrid(plan)
    const heads = plan.batch * plan.queryHeads
    const uniforms = packUniforms(selectTopKUniforms, {
      ...blockGridValues(plan),
      top_k: topK,
      first_row: chunk.firstRow,
      rows: chunk.rows,
    })
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), scores, plan.bitmap],
      workgroups: [chunk.rows, heads, 1],
      cost: {
        operations: 6 * heads * chunk.rows * keyBlocks,
        bytes: heads * chunk.rows * (keyBlocks + 2 * wordsPerRow) * 4,
      },
    }
  }
}
