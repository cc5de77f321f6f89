import {
  bytesPerElement,
  type DType,
  type OwnedTensor,
  permute,
  type Runtime,
  type Tensor,
  tensorView,
} from '@sparse-attention/core'

/**
 * How [B, H, L, D] lies in memory: contiguous, or as a strided view of [B, L, H, D] with an offset, and padding after
 * each token.
 */
export type Layout = 'BHLD' | 'BLHD'

/** Elements before the view, after each of its tokens, and behind it: a multiple of 16 bytes, and not of 256. */
const pad = 24

/** A tensor in the middle of a buffer whose other elements hold a guard value. */
export interface GuardedTensor extends OwnedTensor {
  /** Elements of the buffer that are not the tensor's and no longer hold the guard value. */
  damaged(): Promise<number>
}

/**
 * Uploads values of [B, H, L, D] in a layout. In `BLHD` everything around them is NaN, so that a kernel that reads
 * outside the view shows it.
 */
export function uploadTensor(
  runtime: Runtime,
  dtype: DType,
  shape: readonly [number, number, number, number],
  values: ArrayLike<number>,
  layout: Layout,
): OwnedTensor {
  if (layout === 'BHLD') return runtime.tensor(dtype, shape, Float32Array.from(values))
  return guarded(runtime, dtype, shape, layout, Number.NaN, values)
}

/** A tensor for outputs, in a buffer filled with a guard value, inside the view too. */
export function guardedTensor(
  runtime: Runtime,
  dtype: DType,
  shape: readonly [number, number, number, number],
  layout: Layout,
): GuardedTensor {
  return guarded(runtime, dtype, shape, layout, guardValue)
}

/** A tensor for the LSE of [B, H, L] rows, at an offset that bindings may have, between guard values. */
export function guardedLse(runtime: Runtime, shape: readonly [number, number, number]): GuardedTensor {
  const count = shape[0] * shape[1] * shape[2]
  const offset = 64
  const owner = runtime.tensor('f32', [offset + count + pad], new Float32Array(offset + count + pad).fill(guardValue))
  const inside = (at: number) => at >= offset && at < offset + count
  return own(runtime, owner, tensorView(owner.buffer, 'f32', shape, { offset }), inside, guardValue)
}

/** Exact as a half, and nothing that attention over the suite's inputs gives. */
const guardValue = -1235

function guarded(
  runtime: Runtime,
  dtype: DType,
  [batch, heads, length, headDim]: readonly [number, number, number, number],
  layout: Layout,
  guard: number,
  values?: ArrayLike<number>,
): GuardedTensor {
  // In memory order; a token of BLHD holds all heads.
  const memory = layout === 'BLHD' ? [batch, length, heads, headDim] : [batch, heads, length, headDim]
  const token = layout === 'BLHD' ? heads * headDim + pad : headDim
  const strides =
    layout === 'BLHD' ? [length * token, token, headDim, 1] : [heads * length * token, length * token, token, 1]
  const elements = pad + batch * strides[0]! + pad
  const data = new Float32Array(elements).fill(guard)
  const covered = new Uint8Array(elements)
  let from = 0
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      for (let l = 0; l < length; l++) {
        const [middle, inner] = layout === 'BLHD' ? [l, h] : [h, l]
        const at = pad + b * strides[0]! + middle * strides[1]! + inner * strides[2]!
        covered.fill(1, at, at + headDim)
        if (values) for (let d = 0; d < headDim; d++) data[at + d] = values[from + d]!
        from += headDim
      }
    }
  }
  const owner = runtime.tensor(dtype, [elements], data)
  const stored = tensorView(owner.buffer, dtype, memory, { strides, offset: pad })
  const view = layout === 'BLHD' ? permute(stored, [0, 2, 1, 3]) : stored
  return own(runtime, owner, view, (at) => covered[at] === 1, guard)
}

function own(
  runtime: Runtime,
  owner: OwnedTensor,
  view: Tensor,
  inside: (at: number) => boolean,
  guard: number,
): GuardedTensor {
  return {
    ...view,
    damaged: async () => {
      const capacity = Math.floor(owner.buffer.size / bytesPerElement[owner.dtype])
      const elements = Math.min(capacity, owner.shape[0]!)
      const stored = await runtime.read(tensorView(owner.buffer, owner.dtype, [elements]))
      return stored.reduce((count, value, at) => count + Number(!inside(at) && !Object.is(value, guard)), 0)
    },
    dispose: () => owner.dispose(),
    [Symbol.dispose]: () => owner.dispose(),
  }
}
