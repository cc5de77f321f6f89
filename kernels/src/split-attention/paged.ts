import {
  type AttentionFrame,
  type BufferSlice,
  type Dispatch,
  type PlanData,
  SparseAttentionError,
} from '@sparse-attention/core'
import { checkWords } from '../shared/check.js'

/** Where the keys of each sequence lie in pools that all sequences share. */
export interface PageTable {
  /**
   * u32[B, 1 + width]: the number of keys of a sequence, then the ids of its pages in order. Key j lies in row
   * table[b][1 + ⌊j / page_size⌋] · page_size + j mod page_size of the pools. Ids behind the last page in use are not read.
   */
  readonly table: BufferSlice
  /** Page ids that there is room for. */
  readonly width: number
}

/**
 * Attends as `Attend`, with keys and values in pages:
 *
 * - `frame.k` and `frame.v` are the pools, [1, Hkv, pages · page_size, D], strided;
 * - `frame.keyLength` is the largest number of keys of a sequence, or more: it bounds how many workgroups are dispatched.
 *   A sequence without keys gives output 0 and LSE −∞;
 * - causal is bottom-right in each sequence: its last query row sees all of its keys;
 * - indices of a plan count the keys of a sequence, wherever these lie.
 */
export type PagedAttend = (frame: AttentionFrame, plan: PlanData, pages: PageTable) => readonly Dispatch[]

export interface PagedOptions {
  /** Keys of a page: 16, 32 or 64. */
  readonly pageSize: number
}

/** @throws INVALID_ARGUMENT */
export function checkPageSize(pageSize: number): void {
  if ([16, 32, 64].includes(pageSize)) return
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: `pageSize is ${pageSize}.`,
    fix: 'Use pages of 16, 32 or 64 keys.',
    where: 'pageSize',
  })
}

/** @throws INVALID_SHAPE, INVALID_ARGUMENT, BUFFER_TOO_SMALL */
export function checkPages(frame: AttentionFrame, { pageSize }: PagedOptions, pages: PageTable | undefined): void {
  for (const name of ['k', 'v'] as const) {
    const [batch, , rows] = frame[name].shape as [number, number, number, number]
    if (batch === 1 && rows % pageSize === 0) continue
    throw new SparseAttentionError('INVALID_SHAPE', {
      message: `The pool ${name} has shape [${frame[name].shape}].`,
      fix: `Pass pools of shape [1, kvHeads, pages · ${pageSize}, headDim].`,
      where: name,
    })
  }
  if (pages === undefined || frame.keyLength > pages.width * pageSize) {
    throw new SparseAttentionError('INVALID_ARGUMENT', {
      message: `The page table has room for ${pages?.width ?? 0} pages of ${pageSize} keys, the call is of up to ${frame.keyLength} keys.`,
      fix: 'Pass a page table that holds the longest sequence.',
      where: 'pages',
    })
  }
  checkWords('pages.table', pages.table, frame.batch * (1 + pages.width))
}
