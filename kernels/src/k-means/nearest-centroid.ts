import {
  type AttentionConfig,
  type AttentionFrame,
  type BufferSlice,
  bytesPerElement,
  type Dispatch,
  type Kernel,
  type Runtime,
  type Tensor,
} from '@sparse-attention/core'
import { bindTensor } from '../shared/bind.js'
import { checkInteger, checkRows, checkWords } from '../shared/check.js'
import { workgroupRanges } from '../shared/grid.js'
import { fittingProduct } from '../shared/matrix-product.js'
import { TILE } from '../shared/product-tile.js'
import { addressValues, packUniforms } from '../shared/uniforms.js'
import { emitNearestCentroid, nearestCentroidUniforms } from './emit.js'
import { emitMatrixNearestCentroid, MATRIX_TILE } from './matrix.js'
import { emitRoundCentroids, roundCentroidsUniforms } from './round-centroids.js'

/** Clusters of a batch entry and head. */
export interface ClusterShape {
  readonly clusters: number
  /** So many rows, the first ones, belong to clusters; the rest is a group of its own behind them. Default: all rows. */
  readonly members?: number
}

/** Groups of the rows of a head: its clusters, and what belongs to none of them. */
export function groupCount({ clusters, members }: ClusterShape, length: number): number {
  return clusters + (members === undefined || members >= length ? 0 : 1)
}

/**
 * @param frame     for scratch
 * @param x         [B, H, L, D] of the dtype and head_dim compiled for, strided; finite
 * @param centroids f32 [B·H, groups, D]
 * @param labels    u32 [B·H, L], written
 */
export type NearestCentroid = (
  frame: Pick<AttentionFrame, 'scratch'>,
  x: Tensor,
  shape: ClusterShape,
  centroids: BufferSlice,
  labels: BufferSlice,
) => readonly Dispatch[]

/**
 * The nearest centroid of each row, argmin_c |c|² − 2 x·c, ties to the lower index. On the tier matrix, centroids are rounded to
 * f16 first, as operands of products are there: nearest is then by what was rounded.
 *
 * Cost: 2 · B · H · L · clusters · D operations; x and centroids once, labels written.
 *
 * @throws INVALID_DTYPE, INVALID_SHAPE, INVALID_VIEW, INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export async function nearestCentroid(
  runtime: Runtime,
  { dtype, headDim }: Pick<AttentionConfig, 'dtype' | 'headDim'>,
): Promise<NearestCentroid> {
  const { kernel, round, rows } = await compile(runtime, { dtype, headDim })
  return (frame, x, shape, centroids, labels) => {
    checkRows('x', x, { dtype, headDim })
    const [batch, heads, length] = x.shape as [number, number, number, number]
    const { clusters, members = length } = shape
    checkInteger('clusters', clusters, 1, 2 ** 31)
    checkInteger('members', members, 1, length)
    const segments = batch * heads
    const groups = groupCount(shape, length)
    checkWords('centroids', centroids, segments * groups * headDim)
    checkWords('labels', labels, segments * length)
    const rounded = round && roundCentroids(runtime, round, frame, { segments, clusters, groups, headDim }, centroids)
    const bound = bindTensor(x)
    const total = segments * Math.ceil(length / rows)
    const operationsEach = 2 * rows * clusters * headDim
    const bytes = segments * (length * headDim * bytesPerElement[dtype] + (clusters * headDim + length) * 4)
    const label = workgroupRanges(total, operationsEach, runtime.work.operationsPerDispatch).map((range) => ({
      kernel,
      bindings: [
        runtime.uniforms.get(
          packUniforms(nearestCentroidUniforms, {
            ...range.uniforms,
            ...addressValues('x', bound),
            heads,
            length,
            members,
            clusters,
            groups,
          }),
        ),
        bound.slice,
        ...(rounded ? [rounded.halves, rounded.norms] : [centroids]),
        labels,
      ],
      workgroups: range.workgroups,
      cost: {
        operations: (range.count / total) * 2 * segments * length * clusters * headDim,
        bytes: (range.count / total) * bytes,
      },
    }))
    return rounded ? [rounded.dispatch, ...label] : label
  }
}

interface Compiled {
  readonly kernel: Kernel
  /** Of matrices: rounds the centroids before. */
  readonly round?: Kernel
  /** Rows of a workgroup. */
  readonly rows: number
}

/** On matrices where the tier has them and they fit. */
async function compile(runtime: Runtime, options: Pick<AttentionConfig, 'dtype' | 'headDim'>): Promise<Compiled> {
  const matrix = fittingProduct(runtime, options, (form) => emitMatrixNearestCentroid({ ...options, ...form }))
  if (!matrix) return { kernel: await runtime.kernel(emitNearestCentroid(options)), rows: TILE }
  const [kernel, round] = await Promise.all([
    runtime.kernel(matrix),
    runtime.kernel(emitRoundCentroids(options.headDim)),
  ])
  return { kernel, round, rows: MATRIX_TILE.rows }
}

function roundCentroids(
  runtime: Runtime,
  kernel: Kernel,
  frame: Pick<AttentionFrame, 'scratch'>,
  { segments, clusters, groups, headDim }: { segments: number; clusters: number; groups: number; headDim: number },
  centroids: BufferSlice,
): { halves: BufferSlice; norms: BufferSlice; dispatch: Dispatch } {
  // Whole tiles, so that nothing has to be checked where they are read.
  const places = segments * Math.ceil(clusters / MATRIX_TILE.columns) * MATRIX_TILE.columns
  const halves = frame.scratch(places * headDim * 2)
  const norms = frame.scratch(places * 4)
  const uniforms = packUniforms(roundCentroidsUniforms, { clusters, groups, places })
  const dispatch: Dispatch = {
    kernel,
    bindings: [runtime.uniforms.get(uniforms), centroids, halves, norms],
    workgroups: [Math.ceil(places / 64), 1, 1],
    cost: { operations: 2 * places * headDim, bytes: places * (6 * headDim + 4) },
  }
  return { halves, norms, dispatch }
}
