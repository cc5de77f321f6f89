import type { ErrorCode } from '@sparse-attention/core'

/** An error as it crosses between worker and page, where classes and fields of errors are lost. */
export interface WireError {
  readonly name: string
  readonly code: string | undefined
  readonly message: string
}

/** A mistake made on purpose, at a job's `checkpoint`: what tests ask for in the page's address. */
export type Fault = 'lost-device' | 'out-of-memory'

/** What each fault is told as. */
export const faultCodes: Readonly<Record<Fault, ErrorCode>> = {
  'lost-device': 'DEVICE_LOST',
  'out-of-memory': 'OUT_OF_MEMORY',
}

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

  constructor(code: AppError['code'], message: string) {
    super(message)
    this.name = 'AppError'
    this.code = code
  }
}

const ending: readonly AppError['code'][] = [
  'DEVICE_LOST',
  'OUT_OF_MEMORY',
  'WORKER_FAILED',
  'WEBGPU_UNAVAILABLE',
  'DISPOSED',
  'UNEXPECTED',
]

/** After such an error the worker's device, or the worker itself, is of no more use. */
export function endsWorker(code: AppError['code']): boolean {
  return ending.includes(code)
}
