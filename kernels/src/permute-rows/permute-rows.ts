import {
  type AttentionConfig,
  type BufferSlice,
  bytesPerElement,
  type Dispatch,
  type Runtime,
  SparseAttentionError,
  type Tensor,
} from '@sparse-attention/core'
import { bindTensor } from '../shared/bind.js'
import { checkRows, checkWords } from '../shared/check.js'
import { workgroupRanges } from '../shared/grid.js'
import { addressValues, packUniforms } from '../shared/uniforms.js'
import { emitPermuteRows, permuteRowsUniforms, UNITS_PER_WORKGROUP } from './emit.js'

/** Which row comes where, for every batch entry and head. */
export interface RowOrder {
  /** i32 [B, heads, rows]: the row that comes i-th; −1 gives zeros. */
  readonly order: BufferSlice
  /** Heads with an order of their own: divides the heads of `out`, whose neighbours share one. */
  readonly heads: number
}

/**
 * @param x   [B, Hx, L, D] of the dtype and head_dim compiled for, strided; Hx divides H
 * @param out [B, H, rows, D], strided, in another buffer
 */
export type PermuteRows = (x: Tensor, order: RowOrder, out: Tensor) => readonly Dispatch[]

/**
 * Gathers rows of queries, keys, values or outputs, bit for bit: out[b, h, i] = x[b, h·Hx/H, order[b, h·heads/H, i]]. An
 * order per KV head may serve the query heads that share it, and one per query head may gather from shared keys. With the
 * order that `inversePermutation` gives, rows go back to where they came from.
 *
 * Cost: no arithmetic; rows read and written once, and the order.
 *
 * @throws INVALID_DTYPE, INVALID_SHAPE, INVALID_VIEW, INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export async function permuteRows(
  runtime: Runtime,
  { dtype, headDim }: Pick<AttentionConfig, 'dtype' | 'headDim'>,
): Promise<PermuteRows> {
  const kernel = await runtime.kernel(emitPermuteRows({ dtype, headDim }))
  return (x, { order, heads: orderHeads }, out) => {
    checkRows('x', x, { dtype, headDim })
    checkRows('out', out, { dtype, headDim })
    checkHeads(x, out, orderHeads)
    const [batch, heads, rows] = out.shape as [number, number, number, number]
    checkWords('order', order, batch * orderHeads * rows)
    const [from, to] = [bindTensor(x), bindTensor(out)]
    const width = bytesPerElement[dtype]
    const units = (batch * heads * rows * headDim * width) / 16
    const total = Math.ceil(units / UNITS_PER_WORKGROUP)
    return workgroupRanges(total, 0, runtime.work.operationsPerDispatch).map((range) => ({
      kernel,
      bindings: [
        runtime.uniforms.get(
          packUniforms(permuteRowsUniforms, {
            ...range.uniforms,
            ...addressValues('x', from),
            ...addressValues('out', to),
            heads,
            x_group: heads / x.shape[1]!,
            order_group: heads / orderHeads,
            length: x.shape[2]!,
            rows,
            units,
          }),
        ),
        from.slice,
        order,
        to.slice,
      ],
      workgroups: range.workgroups,
      cost: {
        operations: 0,
        bytes: (range.count / total) * (2 * batch * heads * rows * headDim * width + 4 * batch * orderHeads * rows),
      },
    }))
  }
}

function checkHeads(x: Tensor, out: Tensor, orderHeads: number): void {
  const [batch, heads] = out.shape as [number, number]
  if (x.shape[0] !== batch || heads % x.shape[1]! !== 0) {
    throw new SparseAttentionError('INVALID_SHAPE', {
      message: `Rows of x with shape [${x.shape}] cannot go to out with shape [${out.shape}].`,
      fix: 'Pass tensors of one batch size, the heads of x dividing those of out.',
      where: 'out',
    })
  }
  if (!Number.isSafeInteger(orderHeads) || orderHeads < 1 || heads % orderHeads !== 0) {
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: `${heads} heads cannot share ${orderHeads} orders.`,
      fix: 'order.heads must divide the heads of out.',
      where: 'order.heads',
    })
  }
}
