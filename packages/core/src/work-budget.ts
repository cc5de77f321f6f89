/** How much work goes into one dispatch and one submit, so that no watchdog resets the device. */
export interface WorkBudget {
  readonly operationsPerDispatch: number
  readonly operationsPerSubmit: number
}

// At the effective speed of a slow member of each class (0.5 GFLOPS, 0.2 TFLOPS): about 0.5 s a dispatch.
const softwareBudget: WorkBudget = { operationsPerDispatch: 2.5e8, operationsPerSubmit: 5e8 }
const hardwareBudget: WorkBudget = { operationsPerDispatch: 1e11, operationsPerSubmit: 3e11 }

/** Of a dispatch whose speed is known. The shortest watchdog, of Windows, waits for 2 s. */
const SECONDS_PER_DISPATCH = 0.1

/** Times the budget of its class, at most: a wrong figure must not turn a dispatch into minutes. */
const MOST_TIMES = 200

/** Of an adapter of which nothing is known but its class. */
export function classBudget(software: boolean): WorkBudget {
  return software ? softwareBudget : hardwareBudget
}

/**
 * Operations for one dispatch of a kernel that does so many a second on this adapter: 100 ms of them, or less where `work`
 * asks for less than its class has.
 */
export function knownSpeedBudget(work: WorkBudget, software: boolean, operationsPerSecond: number): number {
  const usual = classBudget(software).operationsPerDispatch
  const times = Math.min((operationsPerSecond * SECONDS_PER_DISPATCH) / usual, MOST_TIMES)
  return work.operationsPerDispatch * times
}
