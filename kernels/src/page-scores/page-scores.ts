import {
  type AttentionConfig,
  type AttentionFrame,
  type BufferSlice,
  bytesPerElement,
  type Dispatch,
  type KeyPages,
  type Runtime,
} from '@sparse-attention/core'
import { bindTensor } from '../shared/bind.js'
import { pageTableValues } from '../shared/pages.js'
import { rowsTogether } from '../shared/rows-together.js'
import { addressValues, packUniforms } from '../shared/uniforms.js'
import { emitPageScores, pageScoresTiling, pageScoresUniforms } from './emit.js'

/** Which query heads a row of scores is for: 'sum', those of a KV head together; 'separate', each alone. */
export type ScoredHeads = 'sum' | 'separate'

/** f32[B, heads, stride], of which a sequence's first ⌈keys / pageSize⌉ are written. */
export interface PageScoreRows {
  readonly heads: number
  readonly stride: number
  readonly scores: BufferSlice
}

/** @param bounds [Hkv, poolPages, 2, D] of the dtype compiled for, minima first */
export type PageScores = (
  frame: AttentionFrame,
  pages: KeyPages,
  bounds: BufferSlice,
) => { readonly rows: PageScoreRows; readonly dispatch: Dispatch }

/**
 * Quest's scores of pages, Σ_c max(q_c · most_c, q_c · least_c): no key of the page has a larger product with q (arXiv 2406.10774,
 * §3.3). For one query of each head.
 *
 * Cost: 4 · B · Hq · pages · D operations; the bounds once for each row of scores: an eighth of the keys' bytes at 16 tokens a page.
 */
export async function pageScores(
  runtime: Runtime,
  {
    dtype,
    headDim,
    queryHeads,
    kvHeads,
  }: Pick<Required<AttentionConfig>, 'dtype' | 'headDim' | 'queryHeads' | 'kvHeads'>,
  of: ScoredHeads,
): Promise<PageScores> {
  const groupSize = queryHeads / kvHeads
  const added = of === 'sum' ? groupSize : 1
  const heads = queryHeads / added
  const options = { dtype, headDim, rows: rowsTogether(added) }
  const kernel = await runtime.kernel(emitPageScores(options))
  const { pagesPerWorkgroup } = pageScoresTiling(options)
  return (frame, pages, bounds) => {
    const { batch } = frame
    const count = Math.ceil(frame.keyLength / pages.pageSize)
    const stride = Math.ceil(count / 4) * 4 // four at a time
    const rows = { heads, stride, scores: frame.scratch(batch * heads * stride * 4) }
    const q = bindTensor(frame.q)
    const uniforms = packUniforms(pageScoresUniforms, {
      ...pageTableValues(pages),
      ...addressValues('q', q),
      group_size: groupSize,
      added,
      heads,
      score_stride: stride,
    })
    return {
      rows,
      dispatch: {
        kernel,
        bindings: [runtime.uniforms.get(uniforms), pages.table, q.slice, bounds, rows.scores],
        workgroups: [Math.ceil(count / pagesPerWorkgroup), heads, batch],
        cost: {
          operations: 4 * batch * queryHeads * count * headDim,
          bytes: batch * heads * count * (2 * headDim * bytesPerElement[dtype] + 4),
        },
      },
    }
  }
}
