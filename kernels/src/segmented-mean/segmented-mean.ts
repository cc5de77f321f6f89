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
import { addressValues, packUniforms } from '../shared/uniforms.js'
import { emitSegmentedMean, segmentedMeanUniforms } from './emit.js'

/** Groups of rows, as `countingSort` gives them. */
export interface RowGroups {
  /** Groups of a batch entry and head. */
  readonly groups: number
  /** i32 [B·H, L] */
  readonly order: BufferSlice
  /** i32 [B·H, groups + 1]; 'one-row-each': group g is the row order[g], and the order i32 [B·H, groups]. */
  readonly starts: BufferSlice | 'one-row-each'
}

/**
 * @param x     [B, H, L, D] of the dtype and head_dim compiled for, strided
 * @param means f32 [B·H, groups, D], contiguous, written; the mean of an empty group stays as it was
 * @param sizes u32 [B·H, groups], written: how many rows each has
 */
export type SegmentedMean = (x: Tensor, rows: RowGroups, means: BufferSlice, sizes: BufferSlice) => readonly Dispatch[]

/**
 * Means of groups of rows, wherever the rows lie: the centroids of clusters. Sums are taken in an order that depends on
 * nothing but the groups, so equal inputs give equal bits.
 *
 * Cost: an addition an element; x and the order read once.
 *
 * @throws INVALID_DTYPE, INVALID_SHAPE, INVALID_VIEW, INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export async function segmentedMean(
  runtime: Runtime,
  { dtype, headDim }: Pick<AttentionConfig, 'dtype' | 'headDim'>,
): Promise<SegmentedMean> {
  const kernel = await runtime.kernel(emitSegmentedMean({ dtype, headDim }))
  return (x, { groups, order, starts }, means, sizes) => {
    checkRows('x', x, { dtype, headDim })
    checkInteger('groups', groups, 1, 2 ** 31)
    const [batch, heads, length] = x.shape as [number, number, number, number]
    const total = batch * heads * groups
    const oneRowEach = starts === 'one-row-each'
    const rows = oneRowEach ? total : batch * heads * length
    checkWords('order', order, rows)
    if (!oneRowEach) checkWords('starts', starts, total + batch * heads)
    checkWords('means', means, total * headDim)
    checkWords('sizes', sizes, total)
    const bound = bindTensor(x)
    const elements = rows * headDim
    const bytes = elements * bytesPerElement[dtype] + rows * 4 + total * (headDim * 4 + 8)
    return workgroupRanges(total, elements / total, runtime.work.operationsPerDispatch).map((range) => ({
      kernel,
      bindings: [
        runtime.uniforms.get(
          packUniforms(segmentedMeanUniforms, {
            ...range.uniforms,
            ...addressValues('x', bound),
            heads,
            length,
            groups,
            one_row_each: oneRowEach ? 1 : 0,
          }),
        ),
        bound.slice,
        order,
        oneRowEach ? order : starts, // unread with one row each, but the binding must be filled
        means,
        sizes,
      ],
      workgroups: range.workgroups,
      cost: { operations: (range.count / total) * elements, bytes: (range.count / total) * bytes },
    }))
  }
}
