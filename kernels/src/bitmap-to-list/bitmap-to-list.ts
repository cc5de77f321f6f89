import type { BufferSlice, Dispatch, Runtime } from '@sparse-attention/core'
import { checkInteger, checkWords } from '../shared/check.js'
import { packUniforms } from '../shared/uniforms.js'
import { bitmapToListUniforms, emitBitmapToList } from './emit.js'

/** Rows of bits and of lists. */
export interface ListRows {
  /** Rows are numbered [heads, rows], each axis at most 65535. */
  readonly heads: number
  readonly rows: number
  /** Bits of a row: entries are 0 … length − 1, of ceil(length / 32) words. */
  readonly length: number
  /** Entries that a row of the list has room for. */
  readonly capacity: number
}

/**
 * @param bitmap  u32[heads, rows, ceil(length / 32)], no bit set from `length` on
 * @param counts  i32[heads, rows]
 * @param indices i32[heads, rows, capacity]
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export type BitmapToList = (shape: ListRows, bitmap: BufferSlice, counts: BufferSlice, indices: BufferSlice) => Dispatch

/**
 * Compacts rows of bits into lists: how many, and which, ascending and padded with −1. Where a row has more than the
 * capacity, the lowest are kept and counted.
 *
 * Cost: the bitmap read once, the list written once.
 */
export async function bitmapToList(runtime: Runtime): Promise<BitmapToList> {
  const kernel = await runtime.kernel(emitBitmapToList())
  return (shape, bitmap, counts, indices) => {
    const { words, lists } = checkList(shape, bitmap, counts, indices)
    const { rows, heads, capacity } = shape
    return {
      kernel,
      bindings: [
        runtime.uniforms.get(packUniforms(bitmapToListUniforms, { rows, words, capacity })),
        bitmap,
        counts,
        indices,
      ],
      workgroups: [rows, heads, 1],
      cost: { operations: lists * words, bytes: 4 * lists * (words + 1 + capacity) },
    }
  }
}

/** Checks the memory of both forms. Returns the words of a row and the number of rows. */
export function checkList(
  { heads, rows, length, capacity }: ListRows,
  bitmap: BufferSlice,
  counts: BufferSlice,
  indices: BufferSlice,
): { words: number; lists: number } {
  checkInteger('heads', heads, 1, 65535)
  checkInteger('rows', rows, 1, 65535)
  checkInteger('length', length, 1, 2 ** 31 - 1)
  checkInteger('capacity', capacity, 1, 2 ** 31 - 1)
  const words = Math.ceil(length / 32)
  const lists = heads * rows
  checkWords('bitmap', bitmap, lists * words)
  checkWords('counts', counts, lists)
  checkWords('indices', indices, lists * capacity)
  return { words, lists }
}
