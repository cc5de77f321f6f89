import {
  type BlockPlanData,
  type BufferSlice,
  blockGrid,
  type Dispatch,
  type Runtime,
  SparseAttentionError,
} from '@sparse-attention/core'
import { blockGridValues } from '../shared/block-plan.js'
import type { ScoreChunk } from '../shared/strided.js'
import { packUniforms } from '../shared/uniforms.js'
import { emitSelectTopK, selectTopKUniforms } from './emit.js'

/** A k for each query head: that of head h of batch · query heads is values[first + h % heads], rounded down. */
export interface TopKPerHead {
  /** f32, not negative, such as a `perHeadTable` holds. */
  readonly values: BufferSlice
  readonly first: number
  readonly heads: number
}

/**
 * @param plan   holds the forced blocks; the selection is added to the chunk's rows
 * @param chunk  rows of query blocks to select in; columns are all key blocks
 * @param scores f32 [B·Hq, chunk.rows, nk], any sign; NaN counts as −∞; cells without a visible pair are not looked at
 * @param topK   blocks that a row keeps, forced ones included: a number, or a table where compiled for one
 * @throws INVALID_ARGUMENT for the other of the two
 */
export type SelectTopK = (
  plan: BlockPlanData,
  chunk: ScoreChunk,
  scores: BufferSlice,
  topK: number | TopKPerHead,
) => Dispatch

export interface SelectTopKKernelOptions {
  /** Of a workgroup: 256 shares a row among more of the GPU, where rows are long and few. Default 64. */
  readonly invocations?: 64 | 256
  /** Takes k from a table of heads. Default false. */
  readonly perHead?: boolean
}

/**
 * Adds to each row of a block plan the blocks of largest score until it holds k blocks, forced ones included, ties going
 * to the lower index. Rows with at most k visible blocks keep them all; forced blocks stay even where they are more than k.
 *
 * Rows of anything else, such as the key columns of a head, are selected from as an `entryPlan`.
 *
 * Cost: 6 passes over the scores, which stay in the cache: one read of them and of the bitmap in device memory.
 */
export async function selectTopK(
  runtime: Runtime,
  causal: boolean,
  { invocations = 64, perHead = false }: SelectTopKKernelOptions = {},
): Promise<SelectTopK> {
  const kernel = await runtime.kernel(emitSelectTopK({ causal, invocations, perHead }))
  return (plan, chunk, scores, topK) => {
    const table = typeof topK === 'number' ? undefined : topK
    if (perHead !== (table !== undefined)) {
      throw new SparseAttentionError('INVALID_ARGUMENT', {
        message: `topK is ${table ? 'a table' : topK}, and the selection was compiled with perHead: ${perHead}.`,
        fix: 'Pass a table of heads where perHead is true, and a number where it is not.',
        where: 'topK',
      })
    }
    const { keyBlocks, wordsPerRow } = blockGrid(plan)
    const heads = plan.batch * plan.queryHeads
    const uniforms = packUniforms(selectTopKUniforms, {
      ...blockGridValues(plan),
      top_k: table ? 0 : (topK as number),
      first_k: table?.first ?? 0,
      table_heads: table?.heads ?? 1,
      first_row: chunk.firstRow,
      rows: chunk.rows,
    })
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), scores, plan.bitmap, ...(table ? [table.values] : [])],
      workgroups: [chunk.rows, heads, 1],
      cost: {
        operations: 6 * heads * chunk.rows * keyBlocks,
        bytes: heads * chunk.rows * (keyBlocks + 2 * wordsPerRow) * 4,
      },
    }
  }
}
