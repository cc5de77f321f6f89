import {
  type AttentionConfig,
  type BufferSlice,
  bytesPerElement,
  type Dispatch,
  type KeyPages,
  type Runtime,
  type Tensor,
} from '@sparse-attention/core'
import { bindTensor } from '../shared/bind.js'
import { checkRows, checkWords } from '../shared/check.js'
import { pageTableValues } from '../shared/pages.js'
import { addressValues, packUniforms } from '../shared/uniforms.js'
import { emitPageBounds, pageBoundsUniforms } from './emit.js'

/** Sequences whose last tokens are new. */
export interface NewRows {
  /** Tokens, the last ones of each sequence. Default: all that a row of the table has room for. */
  readonly rows?: number
  readonly firstSequence?: number
  readonly sequences: number
}

/**
 * @param k      the keys of the pool [1, Hkv, poolPages · pageSize, D], contiguous; or a tensor [B, Hkv, Lk, D]
 * @param bounds [Hkv, poolPages, 2, D] of k's dtype
 */
export type PageBounds = (pages: KeyPages, k: Tensor, bounds: BufferSlice, rows: NewRows) => Dispatch

/**
 * The least and largest number of each channel over the keys of a page (Quest, arXiv 2406.10774, §3.3), for the pages in which the
 * last tokens of each sequence lie. A page is bounded from the keys that it has, not from earlier bounds, so that what a
 * truncation left behind does not stay in them.
 *
 * Cost: two comparisons an element; the keys of those pages read once, bounds written: an eighth of them at 16 tokens a page.
 *
 * @param source whether k is a pool's, or a tensor whose table `plainPages` wrote
 */
export async function pageBounds(
  runtime: Runtime,
  { dtype, headDim }: Pick<AttentionConfig, 'dtype' | 'headDim'>,
  source: 'pages' | 'tensor' = 'pages',
): Promise<PageBounds> {
  const kernel = await runtime.kernel(emitPageBounds({ dtype, headDim, source }))
  return (pages, k, bounds, { rows = pages.width * pages.pageSize, firstSequence = 0, sequences }) => {
    const { pageSize } = pages
    checkRows('k', k, { dtype, headDim })
    const heads = k.shape[1]!
    const segments = source === 'pages' ? heads : heads * sequences
    checkWords('bounds', bounds, (segments * pages.poolPages * headDim * 2 * bytesPerElement[dtype]) / 4)
    const touched = Math.min(pages.width, Math.ceil((rows - 1) / pageSize) + 1)
    const bound = bindTensor(k)
    const uniforms = packUniforms(pageBoundsUniforms, {
      ...pageTableValues(pages),
      ...addressValues('k', bound),
      rows,
      first_sequence: firstSequence,
    })
    const elements = sequences * heads * touched * pageSize * headDim
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), pages.table, bound.slice, bounds],
      workgroups: [touched, heads, sequences],
      cost: { operations: 2 * elements, bytes: elements * bytesPerElement[dtype] * (1 + 2 / pageSize) },
    }
  }
}
