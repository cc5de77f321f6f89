import {
  type AttentionConfig,
  type AttentionFrame,
  bytesPerElement,
  contiguousStrides,
  type DType,
  elementCount,
  permutationOf,
  type Runtime,
  type Tensor,
} from '@sparse-attention/core'
import { type Attend, type FlashAttentionKernelOptions, flashAttention } from '../flash-attention/flash-attention.js'
import { permuteRows } from '../permute-rows/permute-rows.js'
import { scatterRows } from '../scatter-rows/scatter-rows.js'

/**
 * Flash attention over plans of permuted tokens too: brings queries, keys and values into the plan's order, in scratch, attends
 * there and takes outputs and LSE back. Other plans, and dense ones, are attended over where the tensors lie. A program that
 * attends by it says `permutedPlans`.
 *
 * Cost: as `flashAttention`, and with a permutation q, k, v and out read and written once more.
 *
 * @throws UNSUPPORTED from the returned function, for a plan of another kind
 */
export async function permutedAttention(
  runtime: Runtime,
  config: Required<AttentionConfig>,
  options: FlashAttentionKernelOptions = {},
): Promise<Attend> {
  const [permute, scatter, attend] = await Promise.all([
    permuteRows(runtime, config),
    scatterRows(runtime, config),
    flashAttention(runtime, config, options),
  ])
  return (frame, given) => {
    const permutation = permutationOf(given)
    if (!permutation) return attend(frame, given)
    const { permutation: _, ...plan } = given as typeof given & { permutation: typeof permutation }
    const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim } = frame
    const { dtype } = frame.q
    // Both divide the query heads, so this does.
    const keyHeads = leastCommonMultiple(kvHeads, permutation.keyHeads)
    const queries = { order: permutation.queries, heads: queryHeads }
    const keys = { order: permutation.keys, heads: permutation.keyHeads }
    const ordered = {
      q: scratchTensor(frame, dtype, [batch, queryHeads, queryLength, headDim]),
      k: scratchTensor(frame, dtype, [batch, keyHeads, keyLength, headDim]),
      v: scratchTensor(frame, dtype, [batch, keyHeads, keyLength, headDim]),
      out: scratchTensor(frame, dtype, [batch, queryHeads, queryLength, headDim]),
      lse: scratchTensor(frame, 'f32', [batch, queryHeads, queryLength]),
    }
    return [
      ...permute(frame.q, queries, ordered.q),
      ...permute(frame.k, keys, ordered.k),
      ...permute(frame.v, keys, ordered.v),
      ...attend({ ...frame, ...ordered, kvHeads: keyHeads }, plan),
      ...scatter(ordered, queries, frame),
    ]
  }
}

function scratchTensor(frame: AttentionFrame, dtype: DType, shape: readonly number[]): Tensor {
  const { buffer } = frame.scratch(elementCount(shape) * bytesPerElement[dtype])
  return { buffer, dtype, shape, strides: contiguousStrides(shape), offset: 0 }
}

function leastCommonMultiple(a: number, b: number): number {
  let common = a
  while (common % b !== 0) common += a
  return common
}
