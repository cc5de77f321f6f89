import type { AttentionFrame, BufferSlice, Dispatch, Runtime } from '@sparse-attention/core'
import type { ScoreChunk } from '../shared/strided.js'
import { packUniforms } from '../shared/uniforms.js'
import { emitRowSoftmax, rowSoftmaxUniforms } from './emit.js'

export type RowSoftmax = (frame: AttentionFrame, chunk: ScoreChunk, scores: BufferSlice) => Dispatch

/**
 * Softmax along the rows of f32 scores [B·Hq, chunk.rows, chunk.columns], in place, in natural units. Under causality a
 * strided row sees the columns that hold a key visible to its last query; unseen cells become 0. NaN counts as −∞.
 *
 * Cost: 5 operations a cell; scores read three times and written twice.
 */
export async function rowSoftmax(runtime: Runtime, causal: boolean, stride: number): Promise<RowSoftmax> {
  const kernel = await runtime.kernel(emitRowSoftmax(causal))
  return (frame, chunk, scores) => {
    const heads = frame.batch * frame.queryHeads
    const cells = heads * chunk.rows * chunk.columns
    const uniforms = packUniforms(rowSoftmaxUniforms, {
      rows: chunk.rows,
      columns: chunk.columns,
      first_row: chunk.firstRow,
      stride,
      query_offset: frame.keyLength - frame.queryLength,
    })
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), scores],
      workgroups: [chunk.rows, heads, 1],
      cost: { operations: 5 * cells, bytes: 20 * cells },
    }
  }
}
