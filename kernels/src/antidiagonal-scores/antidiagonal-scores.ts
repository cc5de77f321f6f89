import {
  type AttentionConfig,
  type AttentionFrame,
  type BufferSlice,
  bytesPerElement,
  type Dispatch,
  type Runtime,
} from '@sparse-attention/core'
import { bindTensor } from '../shared/bind.js'
import { TILE } from '../shared/product-tile.js'
import type { ScoreChunk } from '../shared/strided.js'
import { addressValues, packUniforms } from '../shared/uniforms.js'
import { antidiagonalUniforms, emitAntidiagonalScores } from './emit.js'

export type AntidiagonalScores = (frame: AttentionFrame, chunk: ScoreChunk, scores: BufferSlice) => Dispatch

/**
 * Scores of strided rows, scores[u, v] = scale/S · Σ_{r<S} q[uS + S−1−r] · k[vS + r] (XAttention, arXiv 2503.16428,
 * §2.1), f32 [B·Hq, chunk.rows, chunk.columns] with columns = ceil(Lk/S). Under causality, cells that no query of their
 * strided row sees are undefined.
 *
 * Cost: 2 · B · Hq · (Lq/S) · (Lk/S) · S · D operations, half of it when causal; q and k read once, scores written.
 */
export async function antidiagonalScores(
  runtime: Runtime,
  config: Required<AttentionConfig>,
  stride: number,
): Promise<AntidiagonalScores> {
  const { dtype, headDim, causal } = config
  const kernel = await runtime.kernel(emitAntidiagonalScores({ dtype, headDim, stride, causal }))
  return (frame, chunk, scores) => {
    const q = bindTensor(frame.q)
    const k = bindTensor(frame.k)
    const heads = frame.batch * frame.queryHeads
    const uniforms = packUniforms(antidiagonalUniforms, {
      ...addressValues('q', q),
      ...addressValues('k', k),
      query_heads: frame.queryHeads,
      group_size: frame.queryHeads / frame.kvHeads,
      query_length: frame.queryLength,
      key_length: frame.keyLength,
      query_offset: frame.keyLength - frame.queryLength,
      scale: frame.scale / stride,
      first_row: chunk.firstRow,
      rows: chunk.rows,
      columns: chunk.columns,
    })
    const cells = heads * chunk.rows * chunk.columns
    const read = frame.batch * headDim * (frame.queryHeads * chunk.rows * stride + frame.kvHeads * frame.keyLength)
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), q.slice, k.slice, scores],
      workgroups: [Math.ceil(chunk.columns / TILE), Math.ceil(chunk.rows / TILE), heads],
      cost: {
        operations: (2 * cells * stride * headDim) / (causal ? 2 : 1),
        bytes: read * bytesPerElement[dtype] + cells * 4,
      },
    }
  }
}
