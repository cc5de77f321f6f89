import { type BufferSlice, bytesPerElement, type Tensor } from '@sparse-attention/core'

/** A tensor as a kernel sees it: a binding, and the rest of its address in units of 16 bytes. */
export interface BoundTensor {
  readonly slice: BufferSlice
  /** Offset of the first element from the start of the binding, in 16-byte units. */
  readonly offset: number
  /** Strides of [batch, heads, length], in 16-byte units; 0 for axes of size 1. */
  readonly strides: readonly [batch: number, heads: number, length: number]
}

/**
 * Binds the part of the buffer that a [B, H, L, D] tensor spans. Bindings start at multiples of 256 bytes, so up to
 * 240 bytes of the offset stay with the kernel. The attention has already checked alignment and bounds.
 */
export function bindTensor(tensor: Tensor): BoundTensor {
  const width = bytesPerElement[tensor.dtype]
  const perUnit = 16 / width
  const startBytes = tensor.offset * width
  const offsetBytes = Math.floor(startBytes / 256) * 256
  const last = tensor.shape.reduce((sum, size, axis) => sum + (size - 1) * tensor.strides[axis]!, tensor.offset)
  const endBytes = Math.ceil(((last + 1) * width) / 16) * 16
  const stride = (axis: number) => (tensor.shape[axis]! > 1 ? tensor.strides[axis]! / perUnit : 0)
  return {
    slice: { buffer: tensor.buffer, offsetBytes, sizeBytes: endBytes - offsetBytes },
    offset: (startBytes - offsetBytes) / 16,
    strides: [stride(0), stride(1), stride(2)],
  }
}

/** Binds a contiguous f32 tensor whole; its offset is a multiple of 256 bytes. */
export function bindContiguous(tensor: Tensor): BufferSlice {
  const count = tensor.shape.reduce((product, size) => product * size, 1)
  return { buffer: tensor.buffer, offsetBytes: tensor.offset * 4, sizeBytes: count * 4 }
}
