import { useCallback, useEffect, useMemo, useRef, useState } from 'react'
import { AppError } from './protocol.js'

/** How far a job is. */
export interface Progress {
  /** What is being done, for people: 'Loading the model'. */
  readonly label: string
  /** Of `total`; both absent where nobody knows. */
  readonly done?: number
  readonly total?: number
  /** Default: steps. */
  readonly unit?: 'bytes' | 'steps'
}

export interface JobContext {
  readonly signal: AbortSignal
  readonly report: (progress: Progress) => void
}

export type JobState<Result> =
  | { readonly status: 'idle' }
  | { readonly status: 'running'; readonly progress: Progress | undefined; readonly cancelling: boolean }
  | { readonly status: 'done'; readonly result: Result }
  | { readonly status: 'cancelled' }
  | { readonly status: 'failed'; readonly error: AppError }

export interface Job<Result> {
  readonly state: JobState<Result>
  readonly running: boolean
  /** The result of the last job that ended well, also while the next one runs. */
  readonly result: Result | undefined
  /** Starts; a job that is still running is cancelled first. Never rejects: what comes of it is in `state`. */
  run(work: (context: JobContext) => Promise<Result>): Promise<void>
  cancel(): void
  /** The work of the last `run` again. */
  again(): void
}

/** One job of a component at a time, with progress, cancellation and typed errors. Leaving the page cancels. */
export function useJob<Result>(): Job<Result> {
  const [state, setState] = useState<JobState<Result>>({ status: 'idle' })
  const [result, setResult] = useState<Result>()
  const current = useRef<AbortController>(undefined)
  const lastWork = useRef<(context: JobContext) => Promise<Result>>(undefined)

  const run = useCallback(async (work: (context: JobContext) => Promise<Result>): Promise<void> => {
    current.current?.abort(cancelled())
    const controller = new AbortController()
    current.current = controller
    lastWork.current = work
    const set = (next: JobState<Result>): void => {
      if (current.current === controller) setState(next)
    }
    set({ status: 'running', progress: undefined, cancelling: false })
    try {
      const found = await work({
        signal: controller.signal,
        report: (progress) => {
          if (!controller.signal.aborted) set({ status: 'running', progress, cancelling: false })
        },
      })
      controller.signal.throwIfAborted()
      if (current.current === controller) setResult(() => found)
      set({ status: 'done', result: found })
    } catch (error) {
      if (controller.signal.aborted) set({ status: 'cancelled' })
      else set({ status: 'failed', error: toAppError(error) })
    }
  }, [])

  const cancel = useCallback((): void => {
    current.current?.abort(cancelled())
    setState((state) => (state.status === 'running' ? { ...state, cancelling: true } : state))
  }, [])

  const again = useCallback((): void => {
    if (lastWork.current) run(lastWork.current)
  }, [run])

  useEffect(() => () => current.current?.abort(cancelled()), [])
  return useMemo(
    () => ({ state, running: state.status === 'running', result, run, cancel, again }),
    [state, result, run, cancel, again],
  )
}

const cancelled = (): DOMException => new DOMException('Cancelled.', 'AbortError')

function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error
  const { code, message } = error as { code?: AppError['code']; message?: string }
  return new AppError(typeof code === 'string' ? code : 'UNEXPECTED', message ?? String(error))
}
