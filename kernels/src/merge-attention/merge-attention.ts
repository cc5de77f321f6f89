import {
  type AttentionConfig,
  type BufferSlice,
  bytesPerElement,
  type Dispatch,
  type Runtime,
  type Tensor,
} from '@sparse-attention/core'
import { bindContiguous, bindTensor } from '../shared/bind.js'
import { addressValues, packUniforms } from '../shared/uniforms.js'
import { emitMergeAttention, mergeAttentionUniforms, mergeSlots, slotsFor } from './emit.js'

/** Results of attention over P disjoint sets of keys. */
export interface AttentionParts {
  readonly count: number
  /** f32 [P, B, Hq, Lq, D], contiguous */
  readonly out: BufferSlice
  /**
   * With statistics 'lse': f32 [P, B, Hq, Lq], natural log, −∞ where a part saw no key. With 'max-sum': f32 [P, B, Hq, Lq, 2],
   * the row's largest score in base 2 and Σ exp2(score − largest), 0 where a part saw no key.
   */
  readonly statistics: BufferSlice
}

/**
 * @param out [B, Hq, Lq, D] of the dtype and head_dim compiled for, strided
 * @param lse [B, Hq, Lq] f32, contiguous
 */
export type MergeAttention = (parts: AttentionParts, out: Tensor, lse: Tensor) => Dispatch

/**
 * Merges attention results of disjoint keys by their LSE: exactly the attention over all of their keys. The
 * order in which parts are added depends on their number alone.
 *
 * @param statistics  what weighs the parts. The LSE of huge scores has no digits left for their sum, so parts that are made
 *   to be merged carry both: 'max-sum'.
 *
 * Cost: 2 · P · B · Hq · Lq · D operations; every part read once, the output written once.
 */
export async function mergeAttention(
  runtime: Runtime,
  { dtype, headDim }: Pick<AttentionConfig, 'dtype' | 'headDim'>,
  statistics: 'lse' | 'max-sum' = 'lse',
): Promise<MergeAttention> {
  const shared = !runtime.software
  const slots = mergeSlots({ dtype, headDim })
  const kernel = await runtime.kernel(emitMergeAttention({ dtype, headDim, statistics, shared }))
  return (parts, out, lse) => {
    const [batch, heads, queryLength] = out.shape as [number, number, number, number]
    const rows = batch * heads * queryLength
    const bound = bindTensor(out)
    const slotsPerRow = shared ? slotsFor(parts.count, slots) : 1
    const uniforms = packUniforms(mergeAttentionUniforms, {
      ...addressValues('out', bound),
      heads,
      query_length: queryLength,
      rows,
      parts: parts.count,
      slots_per_row: slotsPerRow,
    })
    const workgroups = Math.ceil(rows / Math.floor(slots / slotsPerRow))
    const across = Math.min(workgroups, 65535)
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), parts.out, parts.statistics, bound.slice, bindContiguous(lse)],
      workgroups: [across, Math.ceil(workgroups / across), 1],
      cost: {
        operations: 2 * parts.count * rows * headDim,
        bytes: rows * (parts.count * (4 * headDim + 4) + headDim * bytesPerElement[dtype] + 4),
      },
    }
  }
}
