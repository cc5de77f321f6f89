import { SparseAttentionError } from '@sparse-attention/core'
import { expose, releaseProxy, transfer } from 'comlink'
import type { Answer, Fault, WireApi, WireError } from './protocol.js'

/** What a method of a worker gets besides its input. */
export interface CallContext<Report = never> {
  /** Aborted when the page cancels. */
  readonly signal: AbortSignal
  /** Tells the page something while the call goes on; arrives in order, and before the result. Structured-cloned. */
  report(value: Report): void
  /**
   * Call it once in the middle of a job that uses the device. It does nothing, except that a test can have the device lost,
   * memory run out or the worker crash here (`?fault=lost-device`, `out-of-memory`, `crash` in the page's address).
   */
  checkpoint(device: GPUDevice): void
}

// biome-ignore lint/suspicious/noExplicitAny: methods differ in input and report, and are typed where they are called
export type Handlers = Record<string, (input: any, context: CallContext<any>) => unknown>

const transfers = new WeakMap<object, Transferable[]>()

/** A result whose buffers move to the page instead of being copied. */
export function moved<T extends object>(value: T, buffers: Transferable[]): T {
  transfers.set(value, buffers)
  return value
}

/**
 * Makes methods callable by `connect` on a page. Calls run one after another, in the order in which they came: they share a
 * GPU. Returns its argument, whose type is the worker's API: `export type Api = typeof api`.
 */
export function serve<Api extends Handlers>(api: Api): Api {
  const running = new Map<number, AbortController>()
  let last: Promise<unknown> = Promise.resolve()
  // It waits for a checkpoint: the first call may only load a model.
  let awaited: Fault | undefined
  const checkpoint = (device: GPUDevice): void => {
    const fault = awaited
    awaited = undefined
    applyFault(fault, device)
  }

  const wire: WireApi = {
    call(id, method, input, send, fault) {
      const controller = new AbortController()
      running.set(id, controller)
      awaited ??= fault
      const answer = last.then(() => answerTo(api, method, input, controller.signal, send, checkpoint))
      last = answer
      return answer.finally(() => running.delete(id))
    },
    cancel(id) {
      running.get(id)?.abort(new DOMException('Cancelled.', 'AbortError'))
    },
  }
  expose(wire)
  return api
}

async function answerTo(
  api: Handlers,
  method: string,
  input: unknown,
  signal: AbortSignal,
  send: ((value: unknown) => unknown) | undefined,
  checkpoint: (device: GPUDevice) => void,
): Promise<Answer> {
  let lastReport: unknown
  const context: CallContext<unknown> = {
    signal,
    report(value) {
      lastReport = send?.(value)
    },
    checkpoint,
  }
  let answer: Answer
  try {
    signal.throwIfAborted()
    const value = await api[method]!(input, context)
    signal.throwIfAborted()
    answer = { ok: true, value }
    const buffers = typeof value === 'object' && value !== null ? transfers.get(value) : undefined
    if (buffers) transfer(answer, buffers)
  } catch (error) {
    answer = { ok: false, error: signal.aborted ? cancelled : toWire(error) }
  }
  // Reports and results come through different ports, which keep no order between them.
  await lastReport
  ;(send as { [releaseProxy]?: () => void } | undefined)?.[releaseProxy]?.()
  return answer
}

const cancelled: WireError = { name: 'AbortError', code: undefined, message: 'Cancelled.', fix: undefined }

function toWire(error: unknown): WireError {
  if (SparseAttentionError.is(error)) {
    return { name: error.name, code: error.code, message: error.message, fix: error.fix }
  }
  // What a browser throws where memory runs out: for GPU memory, the wasm heap, and an array.
  if (error instanceof RangeError && /allocat|array buffer|memory|Invalid array length/i.test(error.message)) {
    return {
      name: 'RangeError',
      code: 'OUT_OF_MEMORY',
      message: `Memory ran out: ${error.message}.`,
      fix: 'Choose smaller sizes, or close other pages.',
    }
  }
  const { name, message } = error instanceof Error ? error : { name: 'Error', message: String(error) }
  console.error(error)
  return { name, code: 'UNEXPECTED', message, fix: undefined }
}

function applyFault(fault: Fault | undefined, device: GPUDevice): void {
  if (fault === 'lost-device') device.destroy()
  if (fault === 'crash') (globalThis as unknown as { close(): void }).close()
  if (fault === 'out-of-memory') {
    throw new SparseAttentionError('OUT_OF_MEMORY', {
      message: 'The GPU has no memory left (made up, because the address asks for it).',
      fix: 'Choose smaller sizes, or close other pages that use the GPU.',
      where: 'fault',
    })
  }
}
