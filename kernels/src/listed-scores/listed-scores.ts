import {
  type AttentionConfig,
  type AttentionFrame,
  type BufferSlice,
  bytesPerElement,
  type Dispatch,
  type KeyPages,
  type Runtime,
} from '@sparse-attention/core'
import { quantizedKeyBytes } from '../quantize-keys/layout.js'
import { bindTensor } from '../shared/bind.js'
import { pageTableValues, type SelectedLists } from '../shared/pages.js'
import { rowsTogether } from '../shared/rows-together.js'
import { addressValues, packUniforms } from '../shared/uniforms.js'
import { emitListedScores, listedScoresUniforms, SCORED_POSITIONS } from './emit.js'
import type { ListedKeys } from './listed-keys.js'

/**
 * @param lists  pages, of KV heads
 * @param packed keys in 4 or 8 bits [Hkv, poolPages, pageSize, …] and their scales, where the keys compiled for are such
 * @param scores f32 [B, Hq, lists.capacity · pageSize], written as far as the lists go
 */
export type ListedScores = (
  frame: AttentionFrame,
  pages: KeyPages,
  lists: SelectedLists,
  scores: BufferSlice,
  packed?: readonly BufferSlice[],
) => Dispatch

/**
 * Scores of the tokens of listed pages, one query of each head, from keys in 4 or 8 bits (Twilight, arXiv 2502.02770, §4) or
 * from the keys themselves.
 *
 * Cost: 2 · B · Hq · listed tokens · D operations; their keys once for 8 query heads of a group.
 */
export async function listedScores(
  runtime: Runtime,
  {
    dtype,
    headDim,
    queryHeads,
    kvHeads,
  }: Pick<Required<AttentionConfig>, 'dtype' | 'headDim' | 'queryHeads' | 'kvHeads'>,
  keys: ListedKeys,
): Promise<ListedScores> {
  const groupSize = queryHeads / kvHeads
  const rows = rowsTogether(groupSize)
  const kernel = await runtime.kernel(emitListedScores({ dtype, headDim, rows, keys }))
  return (frame, pages, lists, scores, packed = []) => {
    const { batch } = frame
    const tokens = lists.capacity * pages.pageSize
    const q = bindTensor(frame.q)
    const k = bindTensor(frame.k)
    const uniforms = packUniforms(listedScoresUniforms, {
      ...pageTableValues(pages),
      ...addressValues('q', q),
      ...addressValues('k', k),
      kv_heads: kvHeads,
      group_size: groupSize,
      capacity: lists.capacity,
      scale: frame.scale,
    })
    const chunks = Math.ceil(groupSize / rows)
    const each =
      typeof keys === 'number'
        ? quantizedKeyBytes({ bits: keys, headDim }, 1, 1)
        : { packed: headDim * bytesPerElement[dtype], scales: 0 }
    return {
      kernel,
      bindings: [
        runtime.uniforms.get(uniforms),
        pages.table,
        lists.counts,
        lists.indices,
        q.slice,
        scores,
        ...(typeof keys === 'number' ? packed : [k.slice]),
      ],
      workgroups: [Math.ceil(tokens / SCORED_POSITIONS), kvHeads * chunks, batch],
      cost: {
        operations: 2 * batch * queryHeads * tokens * headDim,
        bytes: batch * tokens * (kvHeads * chunks * (each.packed + each.scales) + queryHeads * 4),
      },
    }
  }
}
