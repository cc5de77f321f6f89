import type { Timing } from '@sparse-attention/compare'
import type { Tier } from '@sparse-attention/core'
import type { Workbench } from './workbench.js'

/** What a row's figure should reach. */
export type Target = { readonly atLeast: number } | { readonly atMost: number }

/** One line of the table: a figure that this project promises, or wants to know. */
export interface Row {
  /** Words with slashes, such as `dense/head-dim-128`: what `--rows` matches. */
  readonly name: string
  /** What the figure is, in words. */
  readonly title: string
  /** Of the figure: TFLOPS, × (a ratio) or % (a share, given as a number between 0 and 1). */
  readonly unit: Unit
  /** Absent: wanted to know, nothing promised. */
  readonly target?: Target
  /**
   * @throws NotMeasured when there is a reason for having no figure; whatever else goes wrong ends the run
   */
  measure(bench: Workbench): Promise<Measurement>
}

export type Unit = 'TFLOPS' | '×' | '%'

/** What a row found. Every answer behind it was checked before it was timed. */
export interface Measurement {
  /** In the row's unit; null where there was nothing to compare the times with, which `note` explains. */
  readonly value: number | null
  /** What ran: lengths, heads, plan, options. */
  readonly setup: string
  readonly tier: Tier | null
  /** The largest of all answers that were checked, against float64. */
  readonly checkedError: number
  /** By what was timed; the first is what operations and bytes are of. */
  readonly times: Readonly<Record<string, Timing>>
  /** Of the first time: the least that must be computed, 4 · head_dim · pairs kept. */
  readonly operations?: number
  /** Of the first time: the least that must be moved. */
  readonly bytes?: number
  readonly density?: number
  readonly recall?: number
  readonly note?: string
}

/** A row that has no figure, and says why. */
export class NotMeasured extends Error {
  constructor(
    readonly status: 'wrong result' | 'not available',
    reason: string,
    readonly checkedError: number | null = null,
  ) {
    super(reason)
  }
}

export function meets(value: number, target: Target): boolean {
  return 'atLeast' in target ? value >= target.atLeast : value <= target.atMost
}
