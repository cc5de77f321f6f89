/**
 * Lets runs go in turns, a step each: so that they can be watched side by side, and each is timed alone.
 *
 * Whoever fails, or is no longer needed, ends everybody's waiting by the signal.
 */
export class Turns {
  readonly #count: number
  readonly #signal: AbortSignal
  #turn = 0
  readonly #waiting = new Map<number, () => void>()

  /** @param count of runs, numbered from 0, which is the first whose turn it is */
  constructor(count: number, signal: AbortSignal) {
    this.#count = count
    this.#signal = signal
  }

  /** Resolves when it is the turn of `run`; rejects with the signal's reason. */
  mine(run: number): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#signal.aborted) return reject(this.#signal.reason)
      if (this.#turn === run) return resolve()
      const stopped = () => reject(this.#signal.reason)
      this.#signal.addEventListener('abort', stopped, { once: true })
      this.#waiting.set(run, () => {
        this.#signal.removeEventListener('abort', stopped)
        resolve()
      })
    })
  }

  /** Ends the turn of whoever has it. */
  pass(): void {
    this.#turn = (this.#turn + 1) % this.#count
    const go = this.#waiting.get(this.#turn)
    this.#waiting.delete(this.#turn)
    go?.()
  }
}
