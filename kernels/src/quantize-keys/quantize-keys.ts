import {
  type AttentionConfig,
  type BufferSlice,
  bytesPerElement,
  type Dispatch,
  type KeyPages,
  type Runtime,
  SparseAttentionError,
  type Tensor,
} from '@sparse-attention/core'
import { bindTensor } from '../shared/bind.js'
import { checkInteger, checkRows, checkWords } from '../shared/check.js'
import { workgroupRanges } from '../shared/grid.js'
import { pageTableValues } from '../shared/pages.js'
import { addressValues, packUniforms } from '../shared/uniforms.js'
import { emitQuantizeKeys, quantizeKeysUniforms, tokensPerWorkgroup } from './emit.js'
import { type KeyBits, type QuantizedKeys, quantizedKeyBytes } from './layout.js'

/**
 * @param k          [B, Hkv, rows, D] of the dtype and head_dim compiled for, strided; finite and at most 65504 in size
 * @param keys       where tokens firstToken … firstToken + rows are written
 * @param firstToken place of the first row of k. Default 0
 */
export type QuantizeKeys = (k: Tensor, keys: QuantizedKeys, firstToken?: number) => readonly Dispatch[]

/**
 * Packs keys into 4 or 8 bits an element, with a scale and a zero for each token and KV head: the cache from which Twilight
 * (arXiv 2502.02770, §4) estimates attention. An element differs from what it unpacks to by at most half the scale, and by
 * the rounding of scale and zero to halves. Tokens are packed each for itself, so a cache can grow one by one.
 *
 * Cost: 6 an element; keys read once, and written in an eighth (4 bits) or a quarter (8) of f32's bytes, and 4 a token.
 *
 * @param bits 4 or 8
 * @throws INVALID_DTYPE, INVALID_SHAPE, INVALID_VIEW, INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export async function quantizeKeys(
  runtime: Runtime,
  { dtype, headDim }: Pick<AttentionConfig, 'dtype' | 'headDim'>,
  bits: KeyBits,
): Promise<QuantizeKeys> {
  checkBits(bits)
  const kernel = await runtime.kernel(emitQuantizeKeys({ dtype, headDim, bits }))
  return (k, { packed, scales, capacity }, firstToken = 0) => {
    checkRows('k', k, { dtype, headDim })
    const [batch, kvHeads, rows] = k.shape as [number, number, number, number]
    checkInteger('capacity', capacity, rows, 2 ** 31)
    checkInteger('firstToken', firstToken, 0, capacity - rows)
    const segments = batch * kvHeads
    const held = quantizedKeyBytes({ bits, headDim }, segments, capacity)
    checkWords('keys.packed', packed, held.packed / 4)
    checkWords('keys.scales', scales, held.scales / 4)
    const written = quantizedKeyBytes({ bits, headDim }, segments, rows)
    const elements = segments * rows * headDim
    const bytes = elements * bytesPerElement[dtype] + written.packed + written.scales
    const bound = bindTensor(k)
    const tokens = tokensPerWorkgroup(headDim)
    const total = segments * Math.ceil(rows / tokens)
    return workgroupRanges(total, 6 * tokens * headDim, runtime.work.operationsPerDispatch).map((range) => ({
      kernel,
      bindings: [
        runtime.uniforms.get(
          packUniforms(quantizeKeysUniforms, {
            ...range.uniforms,
            ...pageTableValues(noPages),
            ...addressValues('k', bound),
            kv_heads: kvHeads,
            rows,
            first_token: firstToken,
            capacity,
          }),
        ),
        bound.slice,
        packed,
        scales,
      ],
      workgroups: range.workgroups,
      cost: { operations: (range.count / total) * 6 * elements, bytes: (range.count / total) * bytes },
    }))
  }
}

const noPages = { pageSize: 1, width: 0, poolPages: 0 }

/**
 * @param k             new tokens of consecutive sequences, the last that the table counts of each
 * @param packed        u32 [Hkv, poolPages, pageSize, D · bits / 32]
 * @param scales        u32 [Hkv, poolPages, pageSize]
 * @param firstSequence of the table, where the first of them belongs
 */
export type QuantizePages = (
  pages: KeyPages,
  k: Tensor,
  packed: BufferSlice,
  scales: BufferSlice,
  firstSequence: number,
) => readonly Dispatch[]

/** As `quantizeKeys`, into the pages of a pool: the end of each sequence, as the page table counts them. */
export async function quantizePages(
  runtime: Runtime,
  { dtype, headDim }: Pick<AttentionConfig, 'dtype' | 'headDim'>,
  bits: KeyBits,
): Promise<QuantizePages> {
  checkBits(bits)
  const kernel = await runtime.kernel(emitQuantizeKeys({ dtype, headDim, bits, paged: true }))
  return (pages, k, packed, scales, firstSequence) => {
    checkRows('k', k, { dtype, headDim })
    const [sequences, kvHeads, rows] = k.shape as [number, number, number, number]
    const held = quantizedKeyBytes({ bits, headDim }, kvHeads, pages.poolPages * pages.pageSize)
    checkWords('packed', packed, held.packed / 4)
    checkWords('scales', scales, held.scales / 4)
    const bound = bindTensor(k)
    const tokens = tokensPerWorkgroup(headDim)
    const total = sequences * kvHeads * Math.ceil(rows / tokens)
    const written = quantizedKeyBytes({ bits, headDim }, sequences * kvHeads, rows)
    const elements = sequences * kvHeads * rows * headDim
    const bytes = elements * bytesPerElement[dtype] + written.packed + written.scales
    return workgroupRanges(total, 6 * tokens * headDim, runtime.work.operationsPerDispatch).map((range) => {
      const uniforms = packUniforms(quantizeKeysUniforms, {
        ...range.uniforms,
        ...pageTableValues(pages),
        ...addressValues('k', bound),
        kv_heads: kvHeads,
        rows,
        first_token: firstSequence,
        capacity: 0,
      })
      return {
        kernel,
        bindings: [runtime.uniforms.get(uniforms), bound.slice, packed, scales, pages.table],
        workgroups: range.workgroups,
        cost: { operations: (range.count / total) * 6 * elements, bytes: (range.count / total) * bytes },
      }
    })
  }
}

/** @throws INVALID_ARGUMENT unless bits is 4 or 8 */
export function checkBits(bits: number): asserts bits is KeyBits {
  if (bits === 4 || bits === 8) return
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: `Keys cannot be packed into ${bits} bits.`,
    fix: 'Use 4 or 8.',
    where: 'bits',
  })
}
