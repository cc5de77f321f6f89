import {
  type AttentionConfig,
  type BufferSlice,
  bytesPerElement,
  type Dispatch,
  type Runtime,
  type Tensor,
} from '@sparse-attention/core'
import { bindTensor } from '../shared/bind.js'
import { addressValues, packUniforms } from '../shared/uniforms.js'
import { blockPoolUniforms, emitBlockPool } from './emit.js'

/** What a block is pooled into: a row of means, or a row of minima and a row of maxima. */
export type PoolMode = 'mean' | 'min-max'

/**
 * @param x      [B, H, L, D] of the dtype and head_dim compiled for, strided
 * @param pooled f32, contiguous: means [B·H, ceil(L / block), D], or minima and maxima [B·H, ceil(L / block), 2, D]
 */
export type BlockPool = (x: Tensor, pooled: BufferSlice) => Dispatch

/**
 * Pools blocks of `block` rows of queries or keys: their `mean` (the block-sparse heads of MInference, arXiv 2407.02490,
 * §3.2; the default), or `min-max`, the least and largest number of each channel (Quest's page bounds, arXiv 2406.10774,
 * §3.3). The last block takes the rows that it has. NaN stays in its block and channel.
 *
 * Cost: an addition, or two comparisons, an element; x read once.
 */
export async function blockPool(
  runtime: Runtime,
  { dtype, headDim }: Pick<AttentionConfig, 'dtype' | 'headDim'>,
  block: number,
  mode: PoolMode = 'mean',
): Promise<BlockPool> {
  const kernel = await runtime.kernel(emitBlockPool({ dtype, headDim, mode }))
  const numbers = mode === 'mean' ? 1 : 2
  return (x, pooled) => {
    const [batch, heads, length] = x.shape as [number, number, number, number]
    const bound = bindTensor(x)
    const blocks = Math.ceil(length / block)
    const uniforms = packUniforms(blockPoolUniforms, { ...addressValues('x', bound), heads, length, block, blocks })
    const elements = batch * heads * length * headDim
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), bound.slice, pooled],
      workgroups: [blocks, batch * heads, 1],
      cost: {
        operations: numbers * elements,
        bytes: elements * bytesPerElement[dtype] + numbers * batch * heads * blocks * headDim * 4,
      },
    }
  }
}
