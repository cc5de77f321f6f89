import {
  type AttentionConfig,
  bytesPerElement,
  type Dispatch,
  type Runtime,
  SparseAttentionError,
  type Tensor,
} from '@sparse-attention/core'
import type { RowOrder } from '../permute-rows/permute-rows.js'
import { bindContiguous, bindTensor } from '../shared/bind.js'
import { checkInteger, checkRows, checkWords } from '../shared/check.js'
import { workgroupRanges } from '../shared/grid.js'
import { addressValues, packUniforms } from '../shared/uniforms.js'
import { emitScatterRows, scatterRowsUniforms, UNITS_PER_WORKGROUP } from './emit.js'

/** Rows of an output [B, H, L, D], strided, and their LSE, f32 [B, H, L], contiguous. */
export interface RowsWithLse {
  readonly out: Tensor
  readonly lse: Tensor
}

/**
 * @param from  rows in the order's order
 * @param order i32 [B, heads, L]: where the i-th row belongs; each place at most once, others, such as −1, are left out
 * @param to    of the same shape, in other buffers
 */
export type ScatterRows = (from: RowsWithLse, order: RowOrder, to: RowsWithLse) => readonly Dispatch[]

/**
 * Takes the rows of an output and their LSE back to where they came from, bit for bit: out[b, h, order[i]] = from[b, h, i]. The
 * inverse of `permuteRows` with the same order, if that is a permutation.
 *
 * Cost: no arithmetic; rows, LSE and the order read once, rows and LSE written once.
 *
 * @throws INVALID_DTYPE, INVALID_SHAPE, INVALID_VIEW, INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export async function scatterRows(
  runtime: Runtime,
  { dtype, headDim }: Pick<AttentionConfig, 'dtype' | 'headDim'>,
): Promise<ScatterRows> {
  const kernel = await runtime.kernel(emitScatterRows({ dtype, headDim }))
  return (from, { order, heads: orderHeads }, to) => {
    checkRows('from.out', from.out, { dtype, headDim })
    checkRows('to.out', to.out, { dtype, headDim })
    const [batch, heads, length] = from.out.shape as [number, number, number, number]
    if (from.out.shape.some((size, axis) => size !== to.out.shape[axis])) {
      throw new SparseAttentionError('INVALID_SHAPE', {
        message: `Rows of shape [${from.out.shape}] cannot go to [${to.out.shape}].`,
        fix: 'Pass outputs of one shape.',
        where: 'to.out',
      })
    }
    checkInteger('order.heads', orderHeads, 1, heads)
    checkInteger('heads per order', heads / orderHeads, 1, heads)
    checkWords('order', order, batch * orderHeads * length)
    const [x, out] = [bindTensor(from.out), bindTensor(to.out)]
    const [lse, lseOut] = [bindContiguous(from.lse), bindContiguous(to.lse)]
    checkWords('from.lse', lse, batch * heads * length)
    checkWords('to.lse', lseOut, batch * heads * length)
    const units = (batch * heads * length * headDim * bytesPerElement[dtype]) / 16
    const total = Math.ceil(units / UNITS_PER_WORKGROUP)
    return workgroupRanges(total, 0, runtime.work.operationsPerDispatch).map((range) => ({
      kernel,
      bindings: [
        runtime.uniforms.get(
          packUniforms(scatterRowsUniforms, {
            ...range.uniforms,
            ...addressValues('x', x),
            ...addressValues('out', out),
            heads,
            order_group: heads / orderHeads,
            length,
            units,
          }),
        ),
        x.slice,
        lse,
        order,
        out.slice,
        lseOut,
      ],
      workgroups: range.workgroups,
      cost: {
        operations: 0,
        bytes: (range.count / total) * (32 * units + 4 * batch * length * (2 * heads + orderHeads)),
      },
    }))
  }
}
