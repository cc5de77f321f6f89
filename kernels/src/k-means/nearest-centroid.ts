import {
  type AttentionConfig,
  type BufferSlice,
  bytesPerElement,
  type Dispatch,
  type Runtime,
  type Tensor,
} from '@sparse-attention/core'
import { bindTensor } from '../shared/bind.js'
import { checkInteger, checkRows, checkWords } from '../shared/check.js'
import { workgroupRanges } from '../shared/grid.js'
import { TILE } from '../shared/product-tile.js'
import { addressValues, packUniforms } from '../shared/uniforms.js'
import { emitNearestCentroid, nearestCentroidUniforms } from './emit.js'

/**
 * @param x         [B, H, L, D] of the dtype and head_dim compiled for, strided; finite
 * @param clusters  of a batch entry and head
 * @param centroids f32 [B·H, clusters, D]
 * @param labels    u32 [B·H, L], written
 */
export type NearestCentroid = (
  x: Tensor,
  clusters: number,
  centroids: BufferSlice,
  labels: BufferSlice,
) => readonly Dispatch[]

/**
 * The nearest centroid of each row, argmin_c |c|² − 2 x·c, ties to the lower index.
 *
 * Cost: 2 · B · H · L · clusters · D operations; x and centroids once, labels written.
 *
 * @throws INVALID_DTYPE, INVALID_SHAPE, INVALID_VIEW, INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export async function nearestCentroid(
  runtime: Runtime,
  { dtype, headDim }: Pick<AttentionConfig, 'dtype' | 'headDim'>,
): Promise<NearestCentroid> {
  const kernel = await runtime.kernel(emitNearestCentroid({ dtype, headDim }))
  return (x, clusters, centroids, labels) => {
    checkRows('x', x, { dtype, headDim })
    checkInteger('clusters', clusters, 1, 2 ** 31)
    const [batch, heads, length] = x.shape as [number, number, number, number]
    const segments = batch * heads
    checkWords('centroids', centroids, segments * clusters * headDim)
    checkWords('labels', labels, segments * length)
    const bound = bindTensor(x)
    const total = segments * Math.ceil(length / TILE)
    const operationsEach = 2 * TILE * clusters * headDim
    const bytes = segments * (length * headDim * bytesPerElement[dtype] + (clusters * headDim + length) * 4)
    return workgroupRanges(total, operationsEach, runtime.work.operationsPerDispatch).map((range) => ({
      kernel,
      bindings: [
        runtime.uniforms.get(
          packUniforms(nearestCentroidUniforms, {
            ...range.uniforms,
            ...addressValues('x', bound),
            heads,
            length,
            clusters,
          }),
        ),
        bound.slice,
        centroids,
        labels,
      ],
      workgroups: range.workgroups,
      cost: {
        operations: (range.count / total) * 2 * segments * length * clusters * headDim,
        bytes: (range.count / total) * bytes,
      },
    }))
  }
}
