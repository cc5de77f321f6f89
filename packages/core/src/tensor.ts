import { SparseAttentionError } from './errors.js'

/** Element types of attention tensors. f16 is IEEE half, packed two to a 32-bit word, little-endian. */
export type DType = 'f32' | 'f16'

export const bytesPerElement: Readonly<Record<DType, number>> = { f32: 4, f16: 2 }

/**
 * A strided view of a GPU buffer. It owns nothing: the buffer belongs to whoever made it.
 * `strides` and `offset` count elements, not bytes. The innermost stride is 1.
 */
export interface Tensor {
  readonly buffer: GPUBuffer
  readonly dtype: DType
  readonly shape: readonly number[]
  readonly strides: readonly number[]
  readonly offset: number
}

/** A tensor that owns its buffer. `dispose()` may be called twice. */
export interface OwnedTensor extends Tensor, Disposable {
  dispose(): void
}

/** What a kernel binds: a byte range of a buffer, without an element type. */
export interface BufferSlice {
  readonly buffer: GPUBuffer
  /** Multiple of 256. */
  readonly offsetBytes: number
  readonly sizeBytes: number
}

export interface TensorViewOptions {
  /** In elements, one per axis. Default: contiguous, last axis fastest. */
  readonly strides?: readonly number[]
  /** In elements from the start of the buffer. Default 0. */
  readonly offset?: number
}

export function contiguousStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length)
  let step = 1
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = step
    step *= shape[axis]!
  }
  return strides
}

export function elementCount(shape: readonly number[]): number {
  return shape.reduce((count, size) => count * size, 1)
}

/**
 * A view of `buffer` as a tensor. Nothing is copied and the buffer is never destroyed by this project.
 *
 * @throws INVALID_SHAPE for a size that is not a positive integer, or strides of another rank
 * @throws BUFFER_TOO_SMALL when the last element lies outside the buffer
 */
export function tensorView(
  buffer: GPUBuffer,
  dtype: DType,
  shape: readonly number[],
  options: TensorViewOptions = {},
): Tensor {
  const strides = options.strides ?? contiguousStrides(shape)
  const offset = options.offset ?? 0
  const view: Tensor = { buffer, dtype, shape: [...shape], strides: [...strides], offset }
  validateTensor(view, 'tensor')
  return view
}

/**
 * The same elements with axes in another order, e.g. `permute(t, [0, 2, 1, 3])` reads onnxruntime's
 * [batch, length, heads, head_dim] as [batch, heads, length, head_dim].
 *
 * @throws INVALID_ARGUMENT when `axes` is not a permutation of the tensor's axes
 */
export function permute(tensor: Tensor, axes: readonly number[]): Tensor {
  const sorted = [...axes].sort((a, b) => a - b)
  if (axes.length !== tensor.shape.length || sorted.some((axis, i) => axis !== i)) {
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: `axes [${axes}] is not a permutation of the ${tensor.shape.length} axes of the tensor.`,
      fix: `Name each axis 0…${tensor.shape.length - 1} once.`,
      where: 'axes',
    })
  }
  return {
    buffer: tensor.buffer,
    dtype: tensor.dtype,
    shape: axes.map((axis) => tensor.shape[axis]!),
    strides: axes.map((axis) => tensor.strides[axis]!),
    offset: tensor.offset,
  }
}

/** Index of the last element that the view reads, in elements from the start of the buffer. */
export function lastElement(tensor: Tensor): number {
  return tensor.shape.reduce((last, size, axis) => last + (size - 1) * tensor.strides[axis]!, tensor.offset)
}

export function checkDType(dtype: DType, name: string): void {
  if (Object.hasOwn(bytesPerElement, dtype)) return
  throw new SparseAttentionError('INVALID_DTYPE', {
    message: `${name} has dtype '${String(dtype)}'.`,
    fix: "Use 'f32' or 'f16'.",
    where: name,
  })
}

/** Checks that a view is well formed and lies inside its buffer; `name` is what the error calls it. */
export function validateTensor(tensor: Tensor, name: string): void {
  const { dtype, shape, strides, offset, buffer } = tensor
  checkDType(dtype, name)
  if (shape.length === 0 || shape.some((size) => !Number.isSafeInteger(size) || size <= 0)) {
    throw new SparseAttentionError('INVALID_SHAPE', {
      message: `${name} has shape [${shape}].`,
      fix: 'Every axis needs at least one element.',
      where: name,
    })
  }
  const integral = (n: number) => Number.isSafeInteger(n) && n >= 0
  if (strides.length !== shape.length || !strides.every(integral) || !integral(offset)) {
    throw new SparseAttentionError('INVALID_SHAPE', {
      message: `${name} has strides [${strides}] and offset ${offset} for shape [${shape}].`,
      fix: 'Give one non-negative integer stride per axis and a non-negative integer offset, in elements.',
      where: name,
    })
  }
  const needed = (lastElement(tensor) + 1) * bytesPerElement[dtype]
  if (needed > buffer.size) {
    throw new SparseAttentionError('BUFFER_TOO_SMALL', {
      message: `${name} with shape [${shape}] and strides [${strides}] needs ${needed} bytes, its buffer has ${buffer.size}.`,
      fix: 'Pass a larger buffer, or the shape, strides and offset that the buffer really holds.',
      where: name,
    })
  }
}
