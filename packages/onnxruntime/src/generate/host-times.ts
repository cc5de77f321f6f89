/** Where the host's time for one run of the model went. The parts follow one another, and are all of it. */
export interface HostTimes {
  /** The pieces were replayed, as `captureSteps` had recorded them. */
  readonly captured: boolean
  /** ms of each piece of onnxruntime-web, in order, until it is recorded or handed to the GPU, or computed. */
  readonly piecesMs: readonly number[]
  /**
   * ms of the attentions behind each piece that has some, appending included, until they are handed to the GPU, and with them the piece
   * where that was only recorded.
   */
  readonly attentionsMs: readonly number[]
  /** ms from there until the logits are here: what the GPU still has to do, and reading them. */
  readonly logitsMs: number
}

/** Takes the time of the parts of a run as they end. */
export class HostClock {
  #captured = false
  readonly #pieces: number[] = []
  readonly #attentions: number[] = []
  #logits = 0
  #last = 0

  /** A run begins; what was taken of one before it is forgotten. */
  start(captured: boolean): void {
    this.#captured = captured
    this.#pieces.length = 0
    this.#attentions.length = 0
    this.#last = performance.now()
  }

  endPiece(): void {
    this.#pieces.push(this.#lap())
  }

  endAttentions(): void {
    this.#attentions.push(this.#lap())
  }

  endLogits(): void {
    this.#logits = this.#lap()
  }

  result(): HostTimes {
    return {
      captured: this.#captured,
      piecesMs: this.#pieces.slice(),
      attentionsMs: this.#attentions.slice(),
      logitsMs: this.#logits,
    }
  }

  /** Since the part before ended. */
  #lap(): number {
    const now = performance.now()
    const passed = now - this.#last
    this.#last = now
    return passed
  }
}
