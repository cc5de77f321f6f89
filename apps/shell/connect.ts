import { proxy, releaseProxy, transfer, wrap } from 'comlink'
import { type Answer, AppError, endsWorker, type Fault, faultCodes, type WireApi, type WireError } from './protocol.js'
import type { CallContext, Handlers } from './serve.js'

type Input<Method> = Method extends (input: infer I, ...rest: never[]) => unknown ? I : never
type Output<Method> = Method extends (...args: never[]) => infer O ? Awaited<O> : never
type Report<Method> = Method extends (input: never, context: infer C) => unknown
  ? C extends CallContext<infer R>
    ? R
    : never
  : never

export interface CallOptions<R> {
  /** Rejects with the signal's reason once the worker has stopped, or been stopped. */
  readonly signal?: AbortSignal
  readonly onReport?: (report: R) => void
  /** Buffers of the input that move to the worker instead of being copied. */
  readonly transfer?: Transferable[]
}

/** A worker that a page talks to. */
export interface Client<Api extends Handlers> {
  /**
   * Runs a method in the worker, after those called before. A worker that lost its device or ran out of memory is ended, with
   * everything it holds; the next call starts a new one.
   *
   * @throws AppError with the `code` that the worker's error had; the signal's reason
   */
  call<Method extends keyof Api & string>(
    method: Method,
    input: Input<Api[Method]>,
    options?: CallOptions<Report<Api[Method]>>,
  ): Promise<Output<Api[Method]>>
}

/** How long a cancelled worker may go on before it is ended: a call cannot be interrupted inside a kernel. */
const patienceMs = 5000

/**
 * Talks to a worker that calls `serve`. It starts with the first call.
 *
 * @example
 * const client = connect<Api>(() => new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' }))
 */
export function connect<Api extends Handlers>(start: () => Worker): Client<Api> {
  let live: Connection | undefined
  let lastId = 0
  // Each once, in this order: what is tried again after them should work.
  const faults = faultsOfAddress()

  const end = (connection: Connection, error = new AppError('WORKER_FAILED', 'The computation was ended.')): void => {
    connection.end(error)
    if (connection === live) live = undefined
  }

  return {
    async call(method, input, { signal, onReport, transfer: buffers = [] } = {}) {
      signal?.throwIfAborted()
      live ??= new Connection(start(), end)
      const connection = live
      const id = ++lastId
      let impatience: ReturnType<typeof setTimeout> | undefined
      const cancel = (): void => {
        connection.wire.cancel(id)
        impatience = setTimeout(() => end(connection), patienceMs)
      }
      signal?.addEventListener('abort', cancel, { once: true })
      const [fault] = faults
      try {
        const report = onReport && proxy((value: unknown) => onReport(value as never))
        const sent = buffers.length > 0 ? transfer(input as object, buffers) : input
        const answer = await connection.whileAlive<Answer>(connection.wire.call(id, method, sent, report, fault))
        if (answer.ok) return answer.value as never
        const error = fromWire(answer.error)
        if (error instanceof AppError) {
          if (fault && error.code === faultCodes[fault]) faults.shift()
          if (endsWorker(error.code)) end(connection)
        }
        throw error
      } catch (error) {
        throw signal?.aborted ? signal.reason : error
      } finally {
        clearTimeout(impatience)
        signal?.removeEventListener('abort', cancel)
      }
    },
  }
}

/** One worker, alive until it fails or is ended. */
class Connection {
  readonly wire: ReturnType<typeof wrap<WireApi>>
  readonly #ended: Promise<never>
  #reject!: (error: AppError) => void

  constructor(
    private readonly worker: Worker,
    onFailure: (connection: Connection, error: AppError) => void,
  ) {
    this.#ended = new Promise((_, reject) => {
      this.#reject = reject
    })
    this.#ended.catch(() => {})
    worker.addEventListener('error', (event) => {
      onFailure(
        this,
        new AppError('WORKER_FAILED', `The computation stopped: ${event.message || 'its code did not load'}.`),
      )
    })
    this.wire = wrap<WireApi>(worker)
  }

  whileAlive<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, this.#ended])
  }

  end(error: AppError): void {
    this.#reject(error)
    this.wire[releaseProxy]()
    this.worker.terminate()
  }
}

function fromWire({ name, code, message }: WireError): Error {
  if (name === 'AbortError') return new DOMException(message, 'AbortError')
  return new AppError((code ?? 'UNEXPECTED') as AppError['code'], message)
}

function faultsOfAddress(): Fault[] {
  const asked = new URLSearchParams(location.search).get('fault')?.split(',') ?? []
  return asked.filter((fault): fault is Fault => fault in faultCodes)
}
