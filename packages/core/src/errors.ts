/** Every way this project refuses work. The code is stable across releases; messages are not. */
export type ErrorCode =
  | 'INVALID_ARGUMENT'
  | 'INVALID_SHAPE'
  | 'INVALID_DTYPE'
  | 'INVALID_OPTION'
  | 'INVALID_FILE'
  | 'INVALID_VIEW'
  | 'BUFFER_TOO_SMALL'
  | 'UNSUPPORTED'
  | 'LIMIT_EXCEEDED'
  | 'OUT_OF_MEMORY'
  | 'WEBGPU_UNAVAILABLE'
  | 'MISSING_DEPENDENCY'
  | 'TIER_UNAVAILABLE'
  | 'DEVICE_LOST'
  | 'DISPOSED'
  | 'BUSY'
  | 'STALE_PLAN'
  | 'WRONG_RUNTIME'
  | 'PIPELINE_FAILED'

export interface ErrorDetails {
  /** What is wrong, naming the argument and the value seen. One sentence. */
  readonly message: string
  /** What to do about it. One sentence. */
  readonly fix: string
  /** The argument, option, file or graph node at fault. */
  readonly where?: string
  readonly cause?: unknown
}

/** Survives two copies of this package in one program, which `instanceof` does not. */
const marker: symbol = Symbol.for('sparse-attention.error')

/**
 * The one error type of the project: `code` for programs, `message` (what, where, what to do) for people.
 * Cancellation is not one of them: an aborted call rejects with the signal's own reason, as `fetch` does.
 */
export class SparseAttentionError extends Error {
  readonly code: ErrorCode
  readonly fix: string
  readonly where: string | undefined

  constructor(code: ErrorCode, details: ErrorDetails) {
    super(`${details.message} ${details.fix}`, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'SparseAttentionError'
    Object.defineProperty(this, marker, { value: true })
    this.code = code
    this.fix = details.fix
    this.where = details.where
  }

  /** True for errors of this project, also when they come from another copy of the package. */
  static is(error: unknown): error is SparseAttentionError {
    return error instanceof Error && marker in error
  }
}
