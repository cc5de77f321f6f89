import type { AttentionFrame, BufferSlice, Dispatch, KeyPages, Runtime } from '@sparse-attention/core'
import type { SelectedLists } from '../shared/pages.js'
import { packUniforms } from '../shared/uniforms.js'
import { emitListTokens, listTokensUniforms } from './emit.js'

/**
 * @param lists pages, of KV heads
 * @param bits  u32[B, Hq, ⌈lists.capacity · pageSize / 32⌉]: which tokens of the list a query head keeps
 */
export type ListTokens = (
  frame: Pick<AttentionFrame, 'batch' | 'queryHeads' | 'kvHeads' | 'planBuffer'>,
  pages: Pick<KeyPages, 'pageSize'>,
  lists: SelectedLists,
  bits: BufferSlice,
) => { readonly lists: SelectedLists; readonly dispatch: Dispatch }

/**
 * The tokens that any query head of a KV head's group keeps of its listed pages, as ascending lists of the KV heads: what lets the
 * group share its keys (Twilight, arXiv 2502.02770, appendix B.2).
 *
 * Cost: bits read once for each 256 words of a row, lists written once.
 */
export async function listTokens(runtime: Runtime): Promise<ListTokens> {
  const kernel = await runtime.kernel(emitListTokens())
  return ({ batch, queryHeads, kvHeads, planBuffer }, { pageSize }, pages, bits) => {
    const capacity = pages.capacity * pageSize
    const words = Math.ceil(capacity / 32)
    const rows = batch * kvHeads
    const lists = {
      heads: kvHeads,
      capacity,
      counts: planBuffer(rows * 4),
      indices: planBuffer(rows * capacity * 4),
    }
    const uniforms = packUniforms(listTokensUniforms, {
      page_size: pageSize,
      group_size: queryHeads / kvHeads,
      capacity: pages.capacity,
      words,
    })
    const tiles = Math.ceil(words / 256)
    return {
      lists,
      dispatch: {
        kernel,
        bindings: [runtime.uniforms.get(uniforms), pages.counts, pages.indices, bits, lists.counts, lists.indices],
        workgroups: [tiles, rows, 1],
        cost: {
          operations: tiles * batch * queryHeads * words,
          bytes: 4 * (batch * queryHeads * words + rows * capacity),
        },
      },
    }
  }
}
