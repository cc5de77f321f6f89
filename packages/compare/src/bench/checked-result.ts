import type { OptionValue } from '@sparse-attention/core'

/** A method that was checked before it was timed. */
export interface CheckedResult {
  readonly options: Readonly<Record<string, OptionValue>>
  /** Only what is right is timed. */
  readonly status: 'timed' | 'wrong result' | 'not available'
  /** Why it is not timed. */
  readonly reason: string | null
  /** Of the rows checked, against float64 over the same selection. */
  readonly checkedError: number | null
  readonly path: 'sparse' | 'dense' | null
}
