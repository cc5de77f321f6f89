import { type BufferSlice, SparseAttentionError } from '@sparse-attention/core'

/** @throws INVALID_ARGUMENT unless `value` is an integer in [low, high] */
export function checkInteger(name: string, value: number, low: number, high: number): void {
  if (Number.isSafeInteger(value) && value >= low && value <= high) return
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: `${name} is ${value}.`,
    fix: `Pass an integer from ${low} to ${high}.`,
    where: name,
  })
}

/** @throws BUFFER_TOO_SMALL unless the slice holds `count` elements of 4 bytes */
export function checkWords(name: string, slice: BufferSlice, count: number): void {
  if (slice.sizeBytes >= count * 4) return
  throw new SparseAttentionError('BUFFER_TOO_SMALL', {
    message: `${name} needs ${count * 4} bytes and has ${slice.sizeBytes}.`,
    fix: 'Pass a larger slice, or the sizes that it was made for.',
    where: name,
  })
}
