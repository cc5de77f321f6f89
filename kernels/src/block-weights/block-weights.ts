import type { AttentionFrame, BufferSlice, Dispatch, Runtime } from '@sparse-attention/core'
import type { ScoreChunk } from '../shared/strided.js'
import { packUniforms } from '../shared/uniforms.js'
import { blockWeightsUniforms, emitBlockWeights } from './emit.js'

/**
 * @param chunk      strided rows; `firstRow` starts a block
 * @param statistics f32 [B·Hq, chunk.rows, nk, 2]: of each row and key block, the largest score and Σ exp(score − largest)
 * @param weights    f32 [B·Hq, nq, nk], of which the chunk's block rows are written
 */
export type BlockWeights = (
  frame: AttentionFrame,
  chunk: ScoreChunk,
  statistics: BufferSlice,
  weights: BufferSlice,
) => Dispatch

/**
 * Softmax weights of strided rows summed per block of queries and of keys, from what `antidiagonalStatistics` finds. A
 * strided row sees a key block that holds a key visible to its last query; others weigh nothing. Each row's weights add up
 * to 1, or to 0 where it sees nothing but NaN.
 *
 * Cost: 8 operations a statistic; statistics read twice, the second time mostly from the cache.
 */
export async function blockWeights(
  runtime: Runtime,
  causal: boolean,
  stride: number,
  block: number,
): Promise<BlockWeights> {
  const kernel = await runtime.kernel(emitBlockWeights({ stride, block, causal }))
  const perBlock = block / stride
  return (frame, chunk, statistics, weights) => {
    const heads = frame.batch * frame.queryHeads
    const keyBlocks = Math.ceil(frame.keyLength / block)
    const blockRows = Math.ceil(chunk.rows / perBlock)
    const uniforms = packUniforms(blockWeightsUniforms, {
      rows: chunk.rows,
      first_row: chunk.firstRow,
      query_offset: frame.keyLength - frame.queryLength,
      query_blocks: Math.ceil(frame.queryLength / block),
      key_blocks: keyBlocks,
    })
    const cells = heads * chunk.rows * keyBlocks
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), statistics, weights],
      workgroups: [blockRows, heads, 1],
      cost: { operations: 8 * cells, bytes: 8 * cells + 4 * heads * blockRows * keyBlocks },
    }
  }
}
