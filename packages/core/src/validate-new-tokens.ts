import { SparseAttentionError } from './errors.js'
import type { KVCacheConfig } from './kv-cache.js'
import { bytesPerElement, type Tensor, tensorView } from './tensor.js'

/**
 * Checks keys and values that are to be appended to a KV cache, before anything is recorded. Whether they fit is the cache's
 * to say.
 *
 * @param k          [sequences, Hkv, n, D] of the cache's dtype, strided like the keys of an attention; v likewise
 * @param config     of the cache
 * @param sequences  how many get new tokens, each as many
 * @param buffers    where the cache keeps its tokens: k and v may not lie there
 * @returns n, the new tokens of each sequence
 * @throws INVALID_SHAPE, INVALID_DTYPE, INVALID_VIEW, BUFFER_TOO_SMALL, INVALID_ARGUMENT
 */
export function validateNewTokens(
  k: Tensor,
  v: Tensor,
  { kvHeads, headDim, dtype }: Pick<KVCacheConfig, 'kvHeads' | 'headDim' | 'dtype'>,
  sequences: number,
  buffers: readonly GPUBuffer[],
): number {
  const count = k.shape[2] ?? 0
  for (const [name, tensor] of [
    ['k', k],
    ['v', v],
  ] as const) {
    // Checks rank, strides and bounds.
    tensorView(tensor.buffer, tensor.dtype, tensor.shape, tensor)
    const expected = [sequences, kvHeads, count, headDim]
    if (tensor.shape.length !== 4 || tensor.shape.some((size, axis) => size !== expected[axis])) {
      throw new SparseAttentionError('INVALID_SHAPE', {
        message: `${name} has shape [${tensor.shape}], expected [${expected}].`,
        fix: 'Sequences, KV heads and head_dim are those of the cache; k and v hold the same number of tokens.',
        where: name,
      })
    }
    if (tensor.dtype !== dtype) {
      throw new SparseAttentionError('INVALID_DTYPE', {
        message: `${name} is ${tensor.dtype}, the cache ${dtype}.`,
        fix: `Convert it to ${dtype}.`,
        where: name,
      })
    }
    const elements = 16 / bytesPerElement[dtype] // kernels read 16 bytes at a time
    const aligned = tensor.strides.slice(0, 3).every((step, axis) => tensor.shape[axis] === 1 || step % elements === 0)
    if (tensor.strides[3] !== 1 || tensor.offset % elements !== 0 || !aligned) {
      throw new SparseAttentionError('INVALID_VIEW', {
        message: `${name} has strides [${tensor.strides}] and offset ${tensor.offset}.`,
        fix: `The last axis must be contiguous, other strides and the offset multiples of ${elements} elements (16 bytes).`,
        where: name,
      })
    }
    if (buffers.includes(tensor.buffer)) {
      throw new SparseAttentionError('INVALID_ARGUMENT', {
        message: `${name} lies in the cache.`,
        fix: 'Append from a buffer of its own: a dispatch cannot read and write one buffer.',
        where: name,
      })
    }
  }
  return count
}
