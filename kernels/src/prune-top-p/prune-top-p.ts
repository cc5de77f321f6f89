import type { AttentionFrame, BufferSlice, Dispatch, KeyPages, Runtime } from '@sparse-attention/core'
import { checkInteger, checkWords } from '../shared/check.js'
import { pageTableValues, type SelectedLists } from '../shared/pages.js'
import { packUniforms } from '../shared/uniforms.js'
import { rowInvocations } from '../shared/workgroup-scan.js'
import { emitPruneTopP, pruneTopPUniforms } from './emit.js'

/**
 * @param lists  pages, of KV heads
 * @param scores f32 [B, Hq, lists.capacity · pageSize], as `listedScores` writes them; on return weights
 * @param topP   f32 [layers · Hq], one p a head
 * @param bits   u32[B, Hq, ⌈lists.capacity · pageSize / 32⌉]: which tokens of a list are kept; what lies past the list is not written
 */
export type PruneTopP = (
  frame: Pick<AttentionFrame, 'batch' | 'queryHeads' | 'kvHeads'>,
  pages: KeyPages,
  lists: SelectedLists,
  scores: BufferSlice,
  topP: BufferSlice,
  layer: number,
  bits: BufferSlice,
) => Dispatch

/**
 * Top-p over the tokens that a selector listed (Twilight, arXiv 2502.02770, §3): for each query head the largest weights, ties and all,
 * until they and the forced ones hold a share p of the softmax over the list. Forced are the tokens of the list's first pages and the
 * sequence's last. The mass kept is never below p: sums are exact and rounded against the selection, p itself up by 2^-16 of it.
 * p ≥ 1 keeps all. No sort.
 *
 * Cost: 12 operations a token; scores read and written once, then four times from the cache.
 *
 * @param forcedPages first pages of a list whose tokens are kept whatever their weight
 */
export async function pruneTopP(runtime: Runtime, forcedPages: number): Promise<PruneTopP> {
  checkInteger('forcedPages', forcedPages, 0, 2 ** 20)
  const kernel = await runtime.kernel(emitPruneTopP(rowInvocations(runtime)))
  return ({ batch, queryHeads, kvHeads }, pages, lists, scores, topP, layer, bits) => {
    const tokens = lists.capacity * pages.pageSize
    const words = Math.ceil(tokens / 32)
    checkWords('scores', scores, batch * queryHeads * tokens)
    checkWords('bits', bits, batch * queryHeads * words)
    const uniforms = packUniforms(pruneTopPUniforms, {
      ...pageTableValues(pages),
      query_heads: queryHeads,
      group_size: queryHeads / kvHeads,
      capacity: lists.capacity,
      first_p: layer * queryHeads,
      forced: forcedPages * pages.pageSize,
    })
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), pages.table, lists.counts, topP, scores, bits],
      workgroups: [queryHeads, batch, 1],
      cost: { operations: 12 * batch * queryHeads * tokens, bytes: batch * queryHeads * (8 * tokens + 4 * words) },
    }
  }
}
