import {
  type AttentionConfig,
  type AttentionFrame,
  type BufferSlice,
  bytesPerElement,
  type Dispatch,
  type Kernel,
  type Runtime,
} from '@sparse-attention/core'
import { bindTensor } from '../shared/bind.js'
import { fittingProduct } from '../shared/matrix-product.js'
import { TILE } from '../shared/product-tile.js'
import type { ScoreChunk } from '../shared/strided.js'
import { addressValues, packUniforms } from '../shared/uniforms.js'
import { range } from '../shared/wgsl.js'
import { type AntidiagonalStatisticsOptions, antidiagonalUniforms, emitAntidiagonalStatistics } from './emit.js'
import { emitMatrixAntidiagonalStatistics, MATRIX_TILE } from './matrix.js'

/** Of matrix units over plain ones, at least: the work budget is made for those. */
const MATRIX_SPEED = 16

/**
 * @param chunk      strided rows; its columns do not matter
 * @param statistics f32 [B·Hq, chunk.rows, nk, 2]
 */
export type AntidiagonalStatistics = (
  frame: AttentionFrame,
  chunk: ScoreChunk,
  statistics: BufferSlice,
) => readonly Dispatch[]

/**
 * What a softmax needs of antidiagonal scores (XAttention, arXiv 2503.16428, §2.1) without storing them. Scores are those of
 * strided rows, scores[u, v] = scale/S · Σ_{r<S} q[uS + S−1−r] · k[vS + r]; statistics[u, c] are, over the columns of key
 * block c that row u sees, their largest m and Σ exp(score − m). A strided row sees the columns that hold a key visible to
 * its last query; of blocks of which it sees none, statistics are undefined. NaN counts as −∞. `blockWeights` goes on.
 *
 * Cost: 2 · B · Hq · (Lq/S) · (Lk/S) · S · D operations, half of it when causal; q and k read once, statistics written.
 */
export async function antidiagonalStatistics(
  runtime: Runtime,
  config: Required<AttentionConfig>,
  stride: number,
  block: number,
): Promise<AntidiagonalStatistics> {
  const { dtype, headDim, causal } = config
  const { kernel, tile, speed } = await compile(runtime, { dtype, headDim, stride, block, causal })
  return (frame, chunk, statistics) => {
    const q = bindTensor(frame.q)
    const k = bindTensor(frame.k)
    const heads = frame.batch * frame.queryHeads
    const columns = Math.ceil(frame.keyLength / stride)
    const keyBlocks = Math.ceil(frame.keyLength / block)
    const operationsPerRow = (2 * heads * columns * stride * headDim) / (causal ? 2 : 1)
    const record = (firstTile: number, tiles: number): Dispatch => {
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
        first_tile: firstTile,
        rows: chunk.rows,
        columns,
        key_blocks: keyBlocks,
      })
      const rows = Math.min(tiles * tile, chunk.rows - firstTile * tile)
      const read = frame.batch * headDim * (frame.queryHeads * rows * stride + frame.kvHeads * frame.keyLength)
      return {
        kernel,
        bindings: [runtime.uniforms.get(uniforms), q.slice, k.slice, statistics],
        workgroups: [Math.ceil(columns / tile), tiles, heads],
        cost: {
          operations: operationsPerRow * rows,
          bytes: read * bytesPerElement[dtype] + heads * rows * keyBlocks * 8,
        },
      }
    }
    const tiles = Math.ceil(chunk.rows / tile)
    const most = Math.max(1, Math.floor((speed * runtime.work.operationsPerDispatch) / (operationsPerRow * tile)))
    return range(Math.ceil(tiles / most)).map((i) => record(i * most, Math.min(most, tiles - i * most)))
  }
}

interface Compiled {
  readonly kernel: Kernel
  /** Rows and columns of the scores of a workgroup. */
  readonly tile: number
  /** Operations in the time that other kernels take for one. */
  readonly speed: number
}

/** On matrices where the tier has them and they fit. */
async function compile(runtime: Runtime, options: AntidiagonalStatisticsOptions): Promise<Compiled> {
  const matrix = fittingProduct(runtime, options, (form) => emitMatrixAntidiagonalStatistics({ ...options, ...form }))
  if (matrix) return { kernel: await runtime.kernel(matrix), tile: MATRIX_TILE, speed: MATRIX_SPEED }
  return { kernel: await runtime.kernel(emitAntidiagonalStatistics(options)), tile: TILE, speed: 1 }
}
