import type { Writable } from 'node:stream'
import type { LiveText } from './demo/live-text.js'
import type { Progress } from './progress.js'

/** What the shell gets to know. */
export const exitCodes = { ok: 0, unexpected: 1, badInput: 2, cancelled: 130 } as const

/** What a program talks to. Results go to `stdout`; everything else, progress included, to `stderr`. */
export interface Terminal {
  readonly stdout: Writable
  readonly stderr: Writable
  /** Cancels whatever runs. */
  readonly signal: AbortSignal
}

/** A verb's view of the terminal, under its `--json` flag. */
export interface Output {
  readonly json: boolean
  readonly signal: AbortSignal
  /** A note to the person who waits. */
  log(line: string): void
  /** The one result of a verb: as an object on stdout with `--json`, otherwise as `text`. */
  result(value: object, text: string): void
  /** Text that is the result, as it comes, with a line about it below. Nothing is written with `--json`. */
  liveText(): LiveText
  /** A progress bar that draws on terminals only, and not with `--json`. */
  progress(total: number): Progress
}

/** Thrown by a verb whose result is printed, and is bad news: only the exit code is left to tell. */
export class ReportedFailure extends Error {
  constructor(readonly exitCode: number) {
    super('The result says what failed.')
  }
}
