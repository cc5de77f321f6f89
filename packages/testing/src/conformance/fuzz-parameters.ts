/** How long to look for a case that fails, and from where on. */
export interface FuzzOptions {
  readonly seed: number
  /** Absent: a few cases. */
  readonly seconds?: number
}

/** What `fc.assert` takes for it: `few` cases, not made smaller where one fails; else as many as the time allows. */
export function fuzzParameters(
  { seed, seconds }: FuzzOptions,
  few: number,
): {
  readonly seed: number
  readonly numRuns: number
  readonly endOnFailure?: boolean
  readonly interruptAfterTimeLimit?: number
  readonly markInterruptAsFailure?: boolean
} {
  if (seconds === undefined) return { seed, numRuns: few, endOnFailure: true }
  return { seed, numRuns: 1e6, interruptAfterTimeLimit: seconds * 1000, markInterruptAsFailure: false }
}
