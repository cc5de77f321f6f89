import type { Timing } from '@sparse-attention/compare'
import type { OptionValue } from '@sparse-attention/core'
import { formatOptions } from '../option-values.js'

/** Milliseconds, or microseconds where they are few. */
export function formatMs(ms: number): string {
  if (ms < 1) return `${(1000 * ms).toFixed(ms < 0.1 ? 1 : 0)} µs`
  return `${ms.toFixed(ms < 100 ? 2 : 0)} ms`
}

export function formatTiming(timing: Timing | null): string {
  return timing ? `${formatMs(timing.medianMs)} (${formatMs(timing.p10Ms)}–${formatMs(timing.p90Ms)})` : '–'
}

/** A share, to be read as a percentage. */
export function formatShare(value: number | null, digits = 0): string {
  return value === null ? '–' : `${(100 * value).toFixed(digits)} %`
}

export function formatNumber(value: number | null, digits: number): string {
  return value === null ? '–' : value.toFixed(digits)
}

export function formatSpeedUp(value: number | null): string {
  return value === null ? '–' : `${value.toFixed(2)}×`
}

export function formatError(value: number | null): string {
  return value === null ? '–' : value === 0 ? '0' : value.toExponential(1)
}

/** `quest (tokenBudget 512, …)` */
export function formatMethod(method: string, options: Readonly<Record<string, OptionValue>>): string {
  const text = formatOptions(options)
  return text === '' ? method : `${method} (${text})`
}
