import type { ErrorCode } from '@sparse-attention/core'

/** An error as it crosses between worker and page, where classes and fields of errors are lost. */
export interface WireError {
  readonly name: string
  readonly code: string | undefined
  readonly message: string
  readonly fix: string | undefined
}

/** A mistake made on purpose, once, at the job's `checkpoint`: what tests ask for in the page's address. */
export type Fault = 'lost-device' | 'out-of-memory' | 'crash'

export const faults: readonly Fault[] = ['lost-device', 'out-of-memory', 'crash']

export type Answer = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly error: WireError }

/** What a worker exposes through Comlink. */
export interface WireApi {
  call(
    id: number,
    method: string,
    input: unknown,
    report: ((value: unknown) => void) | undefined,
    fault: Fault | undefined,
  ): Promise<Answer>
  cancel(id: number): void
}

/** An error that came from a worker, or is about one. `code` is that of the packages' errors, or one of the page's own. */
export class AppError extends Error {
  readonly code: ErrorCode | 'WORKER_FAILED' | 'UNEXPECTED'
  /** What to do, where the error said. Part of `message` too. */
  readonly fix: string | undefined

  constructor(code: AppError['code'], message: string, fix?: string) {
    super(message)
    this.name = 'AppError'
    this.code = code
    this.fix = fix
  }
}
