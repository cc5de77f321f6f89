import type { AttentionShape, BufferSlice, Dispatch, Runtime, VariableBlockPlanData } from '@sparse-attention/core'
import { checkInteger, checkWords } from '../shared/check.js'
import { packUniforms } from '../shared/uniforms.js'
import { emitSelectClusters, selectClustersUniforms } from './emit.js'

export interface ClusterRule {
  /** Share p of a row's weight that is kept. */
  readonly topP: number
  /** Clusters that a row keeps at least, where it has so many with keys. */
  readonly fewest: number
  /** The last cluster of queries, such as of a prompt, keeps everything. */
  readonly lastKeepsAll: boolean
  /** Everyone keeps the last cluster of keys. */
  readonly lastIsKept: boolean
}

/**
 * @param plan   whose bitmap is written; its key blocks are those of KV heads
 * @param scores f32 [B·Hq, queryBlocks, keyBlocks] of centroids; on return weights
 * @param sizes  u32 [B·Hkv, keyBlocks]: keys of each cluster
 */
export type SelectClusters = (
  shape: Pick<AttentionShape, 'batch' | 'queryHeads' | 'kvHeads'>,
  plan: VariableBlockPlanData,
  scores: BufferSlice,
  sizes: BufferSlice,
  rule: ClusterRule,
) => Dispatch

/**
 * Selects clusters of keys for each cluster of queries by what their centroids promise (SVG2, arXiv 2505.18875, §4.2): in order
 * of weight, size · e^score, while the sum before is at most p of the total or fewer than some are kept. Ties go to the lower
 * index; clusters without keys are left out. Rows without weight and p ≥ 1 keep every other one.
 *
 * Cost: 34 passes over the scores, which stay in the cache: one read and one write of them in device memory.
 *
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export async function selectClusters(runtime: Runtime): Promise<SelectClusters> {
  const kernel = await runtime.kernel(emitSelectClusters())
  return ({ batch, queryHeads, kvHeads }, plan, scores, sizes, { topP, fewest, lastKeepsAll, lastIsKept }) => {
    const { queryBlocks, keyBlocks } = plan
    const heads = batch * queryHeads
    const words = Math.ceil(keyBlocks / 32)
    checkInteger('fewest', fewest, 0, 2 ** 16)
    checkInteger('keyBlocks', keyBlocks, 1, 2 ** 16)
    checkWords('scores', scores, heads * queryBlocks * keyBlocks)
    checkWords('sizes', sizes, batch * kvHeads * keyBlocks)
    const uniforms = packUniforms(selectClustersUniforms, {
      query_heads: queryHeads,
      group_size: queryHeads / kvHeads,
      query_clusters: queryBlocks,
      key_clusters: keyBlocks,
      words,
      fewest,
      last_keeps_all: lastKeepsAll ? 1 : 0,
      last_is_kept: lastIsKept ? 1 : 0,
      top_p: topP,
    })
    const cells = heads * queryBlocks * keyBlocks
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), scores, sizes, plan.bitmap],
      workgroups: [queryBlocks, heads, 1],
      cost: { operations: 34 * cells, bytes: 8 * cells + 4 * heads * queryBlocks * words },
    }
  }
}
