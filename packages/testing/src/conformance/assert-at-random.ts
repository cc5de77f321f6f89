import fc from 'fast-check'

/** How long to look for a case that fails, and from where on. */
export interface FuzzOptions {
  readonly seed: number
  /** Absent: a few cases. */
  readonly seconds?: number
}

/**
 * Checks `few` cases, not made smaller where one fails; else as many as the time allows. Ends when the last check has ended: what comes
 * next may count the device's buffers, or dispose of what the check uses.
 *
 * @throws what a check throws, with the seed and the path that give its case again
 */
export async function assertAtRandom<Case>(
  cases: fc.Arbitrary<Case>,
  check: (given: Case) => Promise<void>,
  { seed, seconds }: FuzzOptions,
  few: number,
): Promise<void> {
  let last: Promise<void> = Promise.resolve()
  const property = fc.asyncProperty(cases, (given) => {
    last = check(given)
    return last
  })
  const limits =
    seconds === undefined
      ? { numRuns: few, endOnFailure: true }
      : { numRuns: 1e6, interruptAfterTimeLimit: seconds * 1000, markInterruptAsFailure: false }
  try {
    await fc.assert(property, { seed, verbose: true, ...limits })
  } catch (error) {
    await last.catch(() => {})
    throw error
  }
  // When the time is up fast-check waits no longer for the check that runs.
  await last
}
