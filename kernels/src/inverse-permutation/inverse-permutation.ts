import type { BufferSlice, Dispatch, Kernel, Runtime } from '@sparse-attention/core'
import { checkInteger, checkWords } from '../shared/check.js'
import { workgroupRanges } from '../shared/grid.js'
import { packUniforms } from '../shared/uniforms.js'
import { emitInversePermutation, inversePermutationUniforms, ROWS_PER_WORKGROUP } from './emit.js'

export interface OrderShape {
  readonly segments: number
  /** Places of a segment's order. */
  readonly rows: number
  /** Rows that it can name. */
  readonly length: number
}

/**
 * @param order   i32 [segments, rows], each row at most once; others, such as −1, are left out
 * @param inverse i32 [segments, length], written: the place of each row, −1 for those that the order does not name
 */
export type InversePermutation = (shape: OrderShape, order: BufferSlice, inverse: BufferSlice) => readonly Dispatch[]

/**
 * The place of every row in an order: the inverse of a permutation, with which `permuteRows` takes rows back to where they
 * came from. Of an order that leaves rows out it names the rest −1, which `permuteRows` turns into zeros.
 *
 * Cost: no arithmetic; the order read, the inverse written twice.
 *
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export async function inversePermutation(runtime: Runtime): Promise<InversePermutation> {
  const [clear, invert] = await Promise.all([
    runtime.kernel(emitInversePermutation('clear')),
    runtime.kernel(emitInversePermutation('invert')),
  ])
  return (shape, order, inverse) => {
    const { segments, rows, length } = shape
    checkInteger('segments', segments, 1, 2 ** 31)
    checkInteger('rows', rows, 1, 2 ** 31)
    checkInteger('length', length, 1, 2 ** 31)
    checkWords('order', order, segments * rows)
    checkWords('inverse', inverse, segments * length)
    const step = (kernel: Kernel, count: number, bytesEach: number, slices: readonly BufferSlice[]): Dispatch[] =>
      workgroupRanges(Math.ceil(count / ROWS_PER_WORKGROUP), 0, runtime.work.operationsPerDispatch).map((range) => ({
        kernel,
        bindings: [
          runtime.uniforms.get(packUniforms(inversePermutationUniforms, { ...range.uniforms, ...shape })),
          ...slices,
        ],
        workgroups: range.workgroups,
        cost: { operations: 0, bytes: bytesEach * count },
      }))
    return [...step(clear, segments * length, 4, [inverse]), ...step(invert, segments * rows, 8, [inverse, order])]
  }
}
