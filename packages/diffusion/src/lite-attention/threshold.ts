import type { AttentionContext } from '@sparse-attention/core'

/** A threshold for all calls, or a table [layer][step]. */
export type StepThresholds = number | readonly (readonly number[])[]

/**
 * The threshold of a call. A table that was made for another number of steps is read at the same share of the way; layers behind
 * the last row take the last row.
 */
export function thresholdOf(thresholds: StepThresholds, { layer = 0, step = 0, steps }: AttentionContext): number {
  if (typeof thresholds === 'number') return thresholds
  const row = thresholds[Math.min(layer, thresholds.length - 1)]!
  const at = steps === undefined ? step : Math.floor((step * row.length) / steps)
  return row[Math.min(at, row.length - 1)]!
}
