import {
  type AttentionConfig,
  type AttentionFrame,
  type BufferSlice,
  bytesPerElement,
  type Dispatch,
  type KeyPages,
  type Runtime,
  type Tensor,
} from '@sparse-attention/core'
import { bindTensor } from '../shared/bind.js'
import { checkInteger, checkRows } from '../shared/check.js'
import { pageTableValues } from '../shared/pages.js'
import { addressValues, packUniforms } from '../shared/uniforms.js'
import {
  appendPagesUniforms,
  copyPageUniforms,
  emitAppendPages,
  emitCopyPage,
  emitPlainTable,
  emitSetLength,
  plainTableUniforms,
  setLengthUniforms,
} from './emit.js'

const AXIS = 65535

/** New tokens of consecutive sequences, which the table counts already. */
export interface NewTokens {
  /** [sequences, Hkv, rows, D] of the dtype and head_dim compiled for, strided; v likewise. */
  readonly k: Tensor
  readonly v: Tensor
  /** Of the table, where the first of them belongs. */
  readonly firstSequence: number
}

/**
 * @param pools k and v of the pool, [Hkv, poolPages, pageSize, D]
 * @throws INVALID_DTYPE, INVALID_SHAPE, INVALID_VIEW
 */
export type AppendPages = (
  pages: KeyPages,
  tokens: NewTokens,
  pools: { readonly k: BufferSlice; readonly v: BufferSlice },
) => Dispatch

/**
 * Copies new keys and values into the pages of their sequences: the end of each, as the page table counts them.
 *
 * Cost: the new tokens read and written once, whatever the sequences hold.
 */
export async function appendPages(
  runtime: Runtime,
  { dtype, headDim }: Pick<AttentionConfig, 'dtype' | 'headDim'>,
): Promise<AppendPages> {
  const kernel = await runtime.kernel(emitAppendPages())
  const units = (headDim * bytesPerElement[dtype]) / 16
  return (pages, { k, v, firstSequence }, pools) => {
    checkRows('k', k, { dtype, headDim })
    checkRows('v', v, { dtype, headDim })
    const [sequences, heads, rows] = k.shape as [number, number, number, number]
    const [from, values] = [bindTensor(k), bindTensor(v)]
    const uniforms = packUniforms(appendPagesUniforms, {
      ...pageTableValues(pages),
      ...addressValues('k', from),
      ...addressValues('v', values),
      rows,
      units,
      first_sequence: firstSequence,
    })
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), pages.table, from.slice, values.slice, pools.k, pools.v],
      workgroups: [Math.min(AXIS, Math.ceil((rows * units) / 64)), heads, sequences],
      cost: { operations: 0, bytes: 4 * sequences * heads * rows * units * 16 },
    }
  }
}

/** @param data [heads, poolPages, bytesPerPage], of which one page of each head is copied to another */
export type CopyPage = (
  data: BufferSlice,
  shape: { readonly heads: number; readonly poolPages: number; readonly bytesPerPage: number },
  from: number,
  to: number,
) => Dispatch

/** Copies what is kept of one page to another: what makes a shared page one's own. Cost: the page read and written once. */
export async function copyPage(runtime: Runtime): Promise<CopyPage> {
  const kernel = await runtime.kernel(emitCopyPage())
  return (data, { heads, poolPages, bytesPerPage }, from, to) => {
    const units = bytesPerPage / 4
    checkInteger('bytesPerPage / 4', units, 1, 2 ** 30)
    const uniforms = packUniforms(copyPageUniforms, { source: from, target_page: to, units, pool_pages: poolPages })
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), data],
      workgroups: [Math.ceil(units / 64), heads, 1],
      cost: { operations: 0, bytes: 2 * heads * bytesPerPage },
    }
  }
}

export type SetLength = (pages: Pick<KeyPages, 'table' | 'width'>, sequence: number, length: number) => Dispatch

/** Writes the length of one sequence into a page table, as after a truncation. */
export async function setLength(runtime: Runtime): Promise<SetLength> {
  const kernel = await runtime.kernel(emitSetLength())
  return ({ table, width }, sequence, length) => ({
    kernel,
    bindings: [runtime.uniforms.get(packUniforms(setLengthUniforms, { word: sequence * (width + 1), length })), table],
    workgroups: [1, 1, 1],
    cost: { operations: 0, bytes: 4 },
  })
}

/** @returns pages without metadata, and the dispatch that writes their table */
export type PlainPages = (frame: AttentionFrame) => { readonly pages: KeyPages; readonly dispatch: Dispatch }

/**
 * Keys of a tensor as if they lay in pages, so that what selects pages has one form: page n of KV head h of sequence b is the
 * n-th of row b · Hkv + h of an array [B · Hkv, ⌈Lk / pageSize⌉, …].
 */
export async function plainPages(runtime: Runtime, pageSize: number): Promise<PlainPages> {
  const kernel = await runtime.kernel(emitPlainTable())
  return (frame) => {
    const { batch, kvHeads, keyLength } = frame
    const width = Math.ceil(keyLength / pageSize)
    const table = frame.scratch(4 * batch * (width + 1))
    const uniforms = packUniforms(plainTableUniforms, { keys: keyLength, width, kv_heads: kvHeads, batch })
    return {
      // The table says where the first head of a sequence starts; its other heads follow every width pages.
      pages: { pageSize, table, width, poolPages: width, metadata: {} },
      dispatch: {
        kernel,
        bindings: [runtime.uniforms.get(uniforms), table],
        workgroups: [Math.ceil((width + 1) / 64), batch, 1],
        cost: { operations: 0, bytes: 4 * batch * (width + 1) },
      },
    }
  }
}
