import type { BufferSlice, Dispatch, Runtime } from '@sparse-attention/core'
import { checkList, type ListRows } from '../bitmap-to-list/bitmap-to-list.js'
import { packUniforms } from '../shared/uniforms.js'
import { emitListToBitmap, listToBitmapUniforms } from './emit.js'

/**
 * @param counts  i32[heads, rows]
 * @param indices i32[heads, rows, capacity], the first `counts` of each row ascending
 * @param bitmap  u32[heads, rows, ceil(length / 32)], written whole
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export type ListToBitmap = (shape: ListRows, counts: BufferSlice, indices: BufferSlice, bitmap: BufferSlice) => Dispatch

/**
 * Turns lists of ascending entries into rows of bits: the inverse of `bitmapToList`. Entries below 0 or from `length` on are
 * left out.
 *
 * Cost: the list read once, the bitmap written once.
 */
export async function listToBitmap(runtime: Runtime): Promise<ListToBitmap> {
  const kernel = await runtime.kernel(emitListToBitmap())
  return (shape, counts, indices, bitmap) => {
    const { words, lists } = checkList(shape, bitmap, counts, indices)
    const { rows, heads, length, capacity } = shape
    return {
      kernel,
      bindings: [
        runtime.uniforms.get(packUniforms(listToBitmapUniforms, { rows, words, length, capacity })),
        counts,
        indices,
        bitmap,
      ],
      workgroups: [Math.ceil(words / 64), rows, heads],
      cost: { operations: lists * (words + capacity), bytes: 4 * lists * (words + 1 + capacity) },
    }
  }
}
