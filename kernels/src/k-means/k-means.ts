import type { AttentionConfig, AttentionFrame, BufferSlice, Dispatch, Runtime, Tensor } from '@sparse-attention/core'
import { countingSort } from '../counting-sort/counting-sort.js'
import { MOST_BINS } from '../counting-sort/emit.js'
import { segmentedMean } from '../segmented-mean/segmented-mean.js'
import { checkInteger } from '../shared/check.js'
import { type ClusterShape, groupCount, nearestCentroid } from './nearest-centroid.js'

/**
 * Memory of one clustering, all of it the caller's. G is the number of clusters, and one more where some rows belong to none:
 * those are the last group, whose centroid is their mean and attracts nothing.
 */
export interface Clustering {
  /** f32 [B·H, G, D]: where to start, unless rows are given; on return the means of the labels. */
  readonly centroids: BufferSlice
  /** u32 [B·H, L], written */
  readonly labels: BufferSlice
  /** u32 [B·H, G], written: rows of each cluster, 0 where it is empty */
  readonly sizes: BufferSlice
  /** i32 [B·H, L], written: rows by label, in their order within one: for `permuteRows` */
  readonly order: BufferSlice
  /** i32 [B·H, G + 1], written: the place of each cluster's first row in the order */
  readonly starts: BufferSlice
}

export interface KMeansOptions extends ClusterShape {
  /** At least 1; there is no test for convergence, which would need a read-back. */
  readonly iterations: number
  /** i32 [B·H, G]: the rows to start from. Default: what `centroids` holds, e.g. from the step before. */
  readonly rows?: BufferSlice
}

/** @param x [B, H, L, D] of the dtype and head_dim compiled for, strided; finite */
export type KMeans = (
  frame: Pick<AttentionFrame, 'scratch'>,
  x: Tensor,
  clustering: Clustering,
  options: KMeansOptions,
) => readonly Dispatch[]

/**
 * Euclidean k-means (Lloyd) of the rows of every batch entry and head. An iteration labels each row with its nearest
 * centroid, ties to the lower index, and moves each centroid to the mean of its rows; an empty cluster keeps its centroid.
 * Sizes and centroids on return belong to the labels on return. Equal inputs give equal bits: no sum depends on timing.
 * At most 4096 groups.
 *
 * Cost: an iteration takes 2 · B · H · L · C · D operations for the labels, 256 a row for their sort and D for the means.
 *
 * @throws INVALID_DTYPE, INVALID_SHAPE, INVALID_VIEW, INVALID_ARGUMENT, BUFFER_TOO_SMALL, LIMIT_EXCEEDED
 */
export async function kMeans(runtime: Runtime, config: Pick<AttentionConfig, 'dtype' | 'headDim'>): Promise<KMeans> {
  const [label, sort, mean] = await Promise.all([
    nearestCentroid(runtime, config),
    countingSort(runtime, MOST_BINS),
    segmentedMean(runtime, config),
  ])
  return (frame, x, { centroids, labels, sizes, order, starts }, { iterations, rows, ...shape }) => {
    checkInteger('iterations', iterations, 1, 2 ** 16)
    const [batch, heads, length] = x.shape as [number, number, number, number]
    const groups = groupCount(shape, length)
    checkInteger('clusters', shape.clusters, 1, MOST_BINS - (groups - shape.clusters))
    const first = rows ? mean(x, { groups, order: rows, starts: 'one-row-each' }, centroids, sizes) : []
    const iteration = [
      ...label(frame, x, shape, centroids, labels),
      ...sort(frame, { segments: batch * heads, length, bins: groups }, labels, order, starts),
      ...mean(x, { groups, order, starts }, centroids, sizes),
    ]
    // All iterations do the same to the same memory.
    return [...first, ...Array.from({ length: iterations }, () => iteration).flat()]
  }
}
