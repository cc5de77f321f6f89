import type { AttentionFrame, Dispatch, KeyPages, Runtime } from '@sparse-attention/core'
import type { PageScoreRows } from '../page-scores/page-scores.js'
import { checkInteger } from '../shared/check.js'
import { pageTableValues, type SelectedLists } from '../shared/pages.js'
import { packUniforms } from '../shared/uniforms.js'
import { rowInvocations } from '../shared/workgroup-scan.js'
import { emitSelectPages, selectPagesUniforms } from './emit.js'

/**
 * @param rows of scores of pages
 * @param topK pages of a list, the last page and the first `sinks` counted: at least sinks + 1
 * @throws INVALID_ARGUMENT
 */
export type SelectPages = (
  frame: Pick<AttentionFrame, 'batch' | 'keyLength' | 'planBuffer'>,
  pages: KeyPages,
  rows: PageScoreRows,
  topK: number,
) => { readonly lists: SelectedLists; readonly dispatch: Dispatch }

/**
 * The pages that each row attends to, as ascending lists: its first `sinks`, its last, and those of largest score until there are
 * `topK`; ties go to the lower page. Sequences differ in length; one of at most `topK` pages keeps them all.
 *
 * Cost: 5 operations a page; scores read once, then four times more from the cache.
 *
 * @param sinks first pages that are kept whatever their score
 */
export async function selectPages(runtime: Runtime, sinks: number): Promise<SelectPages> {
  checkInteger('sinks', sinks, 0, 2 ** 20)
  const kernel = await runtime.kernel(emitSelectPages(rowInvocations(runtime)))
  return (frame, pages, { heads, stride, scores }, topK) => {
    checkInteger('topK', topK, sinks + 1, 2 ** 31 - 1)
    const { batch } = frame
    const count = Math.ceil(frame.keyLength / pages.pageSize)
    const capacity = Math.min(topK, count)
    const lists = {
      heads,
      capacity,
      counts: frame.planBuffer(batch * heads * 4),
      indices: frame.planBuffer(batch * heads * capacity * 4),
    }
    const uniforms = packUniforms(selectPagesUniforms, {
      ...pageTableValues(pages),
      heads,
      score_stride: stride,
      capacity,
      // A longer sequence than fits the lists there is not: pages ≤ topK keeps all of them.
      top_k: topK,
      sinks,
    })
    return {
      lists,
      dispatch: {
        kernel,
        bindings: [runtime.uniforms.get(uniforms), pages.table, scores, lists.counts, lists.indices],
        workgroups: [heads, batch, 1],
        cost: { operations: 5 * batch * heads * count, bytes: 4 * batch * heads * (count + capacity) },
      },
    }
  }
}
