import type { AttentionFrame, Dispatch, KeyPages, Runtime, StripePlanData } from '@sparse-attention/core'
import { checkInteger } from '../shared/check.js'
import { pageTableValues } from '../shared/pages.js'
import { packUniforms } from '../shared/uniforms.js'
import { emitSinkWindowLists, sinkWindowListsUniforms } from './emit.js'

export type SinkWindowLists = (
  frame: AttentionFrame,
  pages: KeyPages,
) => { readonly plan: StripePlanData; readonly dispatch: Dispatch }

/**
 * A plan of the first `sink` tokens of each sequence and its last `window`, whatever its length (StreamingLLM, arXiv 2309.17453).
 *
 * Cost: nothing to speak of.
 *
 * @throws INVALID_ARGUMENT unless both are at least 1
 */
export async function sinkWindowLists(
  runtime: Runtime,
  { sink, window }: { readonly sink: number; readonly window: number },
): Promise<SinkWindowLists> {
  checkInteger('sink', sink, 1, 2 ** 30)
  checkInteger('window', window, 1, 2 ** 30)
  const kernel = await runtime.kernel(emitSinkWindowLists())
  return (frame, pages) => {
    const { batch, queryHeads, kvHeads, queryLength, keyLength, causal } = frame
    const rows = batch * kvHeads
    const plan: StripePlanData = {
      kind: 'stripe',
      ...{ batch, queryHeads, queryLength, keyLength, causal, heads: kvHeads, blockQ: 64 },
      lists: [
        { width: sink, capacity: 1 },
        { width: window, capacity: 1 },
      ],
      counts: frame.planBuffer(2 * rows * 4),
      indices: frame.planBuffer(2 * rows * 4),
    }
    const uniforms = packUniforms(sinkWindowListsUniforms, {
      ...pageTableValues(pages),
      heads: kvHeads,
      rows,
      sink,
      window,
    })
    return {
      plan,
      dispatch: {
        kernel,
        bindings: [runtime.uniforms.get(uniforms), pages.table, plan.counts, plan.indices],
        workgroups: [Math.ceil(rows / 64), 1, 1],
        cost: { operations: 0, bytes: 16 * rows },
      },
    }
  }
}
