import {
  type AttentionConfig,
  type BufferSlice,
  bytesPerElement,
  SparseAttentionError,
  type Tensor,
} from '@sparse-attention/core'

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

/** @throws INVALID_DTYPE, INVALID_SHAPE, INVALID_VIEW unless a kernel for this dtype and head_dim can bind the tensor */
export function checkRows(
  name: string,
  { dtype, shape, strides, offset }: Tensor,
  config: Pick<AttentionConfig, 'dtype' | 'headDim'>,
): void {
  if (dtype !== config.dtype) {
    throw new SparseAttentionError('INVALID_DTYPE', {
      message: `${name} is ${dtype}, the kernel was made for ${config.dtype}.`,
      fix: `Convert it, or compile the primitive with dtype '${dtype}'.`,
      where: name,
    })
  }
  if (shape.length !== 4 || shape[3] !== config.headDim) {
    throw new SparseAttentionError('INVALID_SHAPE', {
      message: `${name} has shape [${shape}].`,
      fix: `Pass a tensor of shape [B, H, L, ${config.headDim}].`,
      where: name,
    })
  }
  const elements = 16 / bytesPerElement[dtype] // kernels read 16 bytes at a time
  const steps = shape.map((size, axis) => (size > 1 && axis < 3 ? strides[axis]! : 0))
  if (strides[3] === 1 && offset % elements === 0 && steps.every((step) => step % elements === 0)) return
  throw new SparseAttentionError('INVALID_VIEW', {
    message: `${name} has strides [${strides}] and offset ${offset}.`,
    fix: `The last axis must be contiguous, other strides and the offset multiples of ${elements} elements (16 bytes).`,
    where: name,
  })
}
