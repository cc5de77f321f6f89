import type { AttentionFrame, BufferSlice, Dispatch, Runtime } from '@sparse-attention/core'
import type { ScoreChunk } from '../shared/strided.js'
import { packUniforms } from '../shared/uniforms.js'
import { blockSumsUniforms, emitBlockSums } from './emit.js'

export type BlockSums = (frame: AttentionFrame, chunk: ScoreChunk, scores: BufferSlice, sums: BufferSlice) => Dispatch

/**
 * Sums scores of strided rows, f32 [B·Hq, chunk.rows, chunk.columns], into blocks of `block` tokens:
 * sums f32 [B·Hq, nq, nk], of which the chunk's block rows are written. `chunk.firstRow` starts a block.
 *
 * Cost: one addition a cell; scores read once.
 */
export async function blockSums(runtime: Runtime, stride: number, block: number): Promise<BlockSums> {
  const kernel = await runtime.kernel(emitBlockSums())
  const cellsPerSide = block / stride
  return (frame, chunk, scores, sums) => {
    const heads = frame.batch * frame.queryHeads
    const cells = heads * chunk.rows * chunk.columns
    const keyBlocks = Math.ceil(frame.keyLength / block)
    const uniforms = packUniforms(blockSumsUniforms, {
      rows: chunk.rows,
      columns: chunk.columns,
      block_rows: cellsPerSide,
      block_columns: cellsPerSide,
      first_block_row: chunk.firstRow / cellsPerSide,
      query_blocks: Math.ceil(frame.queryLength / block),
      key_blocks: keyBlocks,
    })
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), scores, sums],
      workgroups: [Math.ceil(keyBlocks / 64), Math.ceil(chunk.rows / cellsPerSide), heads],
      cost: { operations: cells, bytes: cells * 4 },
    }
  }
}
