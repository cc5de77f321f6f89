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

/**
 * @param x     [B, H, L, D] of the dtype and head_dim compiled for, strided
 * @param means f32 [B·H, ceil(L / block), D], contiguous
 */
export type BlockPool = (x: Tensor, means: BufferSlice) => Dispatch

/**
 * Mean-pools blocks of `block` rows of queries or keys (the block-sparse heads of MInference, arXiv 2407.02490, §3.2).
 * The last block divides by the rows that it has. NaN stays in its block.
 *
 * Cost: an addition an element; x read once.
 */
export async function blockPool(
  runtime: Runtime,
  { dtype, headDim }: Pick<AttentionConfig, 'dtype' | 'headDim'>,
  block: number,
): Promise<BlockPool> {
  const kernel = await runtime.kernel(emitBlockPool({ dtype, headDim }))
  return (x, means) => {
    const [batch, heads, length] = x.shape as [number, number, number, number]
    const bound = bindTensor(x)
    const blocks = Math.ceil(length / block)
    const uniforms = packUniforms(blockPoolUniforms, { ...addressValues('x', bound), heads, length, block, blocks })
    const elements = batch * heads * length * headDim
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), bound.slice, means],
      workgroups: [blocks, batch * heads, 1],
      cost: {
        operations: elements,
        bytes: elements * bytesPerElement[dtype] + batch * heads * blocks * headDim * 4,
      },
    }
  }
}
