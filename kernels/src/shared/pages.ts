import type { BufferSlice, KeyPages } from '@sparse-attention/core'

/** What a kernel knows of a page table, beside the binding `table`: u32[B, 1 + width]. */
export const pageTableUniforms = {
  page_size: 'u32',
  /** Words of a row of the table. */
  table_stride: 'u32',
  /** Pages of a KV head in what is kept of pages. */
  pool_pages: 'u32',
} as const

export function pageTableValues(
  pages: Pick<KeyPages, 'pageSize' | 'width' | 'poolPages'>,
): Record<keyof typeof pageTableUniforms, number> {
  return { page_size: pages.pageSize, table_stride: pages.width + 1, pool_pages: pages.poolPages }
}

/** WGSL `key_count(sequence)` and `page_of(sequence, n)`. Needs `u` with `pageTableUniforms`, and `table`. */
export const pageTableFunctions: string = `\
fn key_count(sequence: u32) -> u32 { return min(table[sequence * u.table_stride], (u.table_stride - 1u) * u.page_size); }

// Where in the pool the n-th page of a sequence lies.
fn page_of(sequence: u32, n: u32) -> u32 { return table[sequence * u.table_stride + 1u + n]; }`

/** The lists of a selection of pages or tokens: one a row, of a KV head or of a query head. */
export interface SelectedLists {
  /** Lists of a sequence: the KV heads, or the query heads. */
  readonly heads: number
  /** Entries that there is room for in each list. */
  readonly capacity: number
  /** i32[B, heads] */
  readonly counts: BufferSlice
  /** i32[B, heads, capacity]: the first token of each page, or tokens; ascending, padded with −1. */
  readonly indices: BufferSlice
}
