import {
  type AttentionConfig,
  type AttentionFrame,
  type BlockPlanData,
  type BufferSlice,
  blockGrid,
  type Dispatch,
  type Runtime,
} from '@sparse-attention/core'
import { blockGridValues } from '../shared/block-plan.js'
import { TILE } from '../shared/product-tile.js'
import type { ScoreChunk } from '../shared/strided.js'
import { packUniforms } from '../shared/uniforms.js'
import { emitPooledScores, pooledScoresUniforms } from './emit.js'

/**
 * @param plan   whose blocks the means are of; its bitmap is not touched
 * @param chunk  rows of query blocks to score; columns are all key blocks
 * @param qMeans f32 [B·Hq, nq, D]
 * @param kMeans f32 [B·Hkv, nk, D]
 * @param scores f32 [B·Hq, chunk.rows, nk]
 */
export type PooledScores = (
  frame: AttentionFrame,
  plan: BlockPlanData,
  chunk: ScoreChunk,
  qMeans: BufferSlice,
  kMeans: BufferSlice,
  scores: BufferSlice,
) => Dispatch

/**
 * Scores of pooled blocks, scores[h, a, c] = scale · q̄[h, a] · k̄[h / g, c] (the block-sparse heads of MInference, arXiv
 * 2407.02490, §3.2). Under causality, cells without a visible pair are undefined.
 *
 * Cost: 2 · B · Hq · nq · nk · D operations, half of it when causal; means read once, scores written.
 */
export async function pooledScores(
  runtime: Runtime,
  { headDim, causal }: Pick<AttentionConfig, 'headDim' | 'causal'>,
): Promise<PooledScores> {
  const kernel = await runtime.kernel(emitPooledScores({ headDim, causal }))
  return (frame, plan, chunk, qMeans, kMeans, scores) => {
    const { keyBlocks } = blockGrid(plan)
    const heads = frame.batch * frame.queryHeads
    const uniforms = packUniforms(pooledScoresUniforms, {
      ...blockGridValues(plan),
      query_heads: frame.queryHeads,
      group_size: frame.queryHeads / frame.kvHeads,
      scale: frame.scale,
      first_row: chunk.firstRow,
      rows: chunk.rows,
    })
    const cells = heads * chunk.rows * keyBlocks
    const read = frame.batch * headDim * (frame.queryHeads * chunk.rows + frame.kvHeads * keyBlocks)
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), qMeans, kMeans, scores],
      workgroups: [Math.ceil(keyBlocks / TILE), Math.ceil(chunk.rows / TILE), heads],
      cost: { operations: (2 * cells * headDim) / (causal ? 2 : 1), bytes: (read + cells) * 4 },
    }
  }
}
