import { SparseAttentionError } from '@sparse-attention/core'
import { expose, releaseProxy, transfer } from 'comlink'
import type { Answer, Fault, WireApi } from './protocol.js'
import { cancelled, toWire } from './wire-error.js'

/** What a method of a worker gets besides its input. */
export interface CallContext<Report = never> {
  /** Aborted when the page cancels. */
  readonly signal: AbortSignal
  /** Tells the page something while the call goes on; arrives in order, and before the result. Structured-cloned. */
  report(value: Report): void
  /**
   * Call it in the middle of a job that uses the device. It does nothing, except that a test can have the device lost or memory
   * run out here: `?fault=lost-device`, `?fault=out-of-memory` or a list of them, one for each try, in the page's address.
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
  const wire: WireApi = {
    call(id, method, input, send, fault) {
      const controller = new AbortController()
      running.set(id, controller)
      const answer = last.then(() => answerTo(api, method, input, controller.signal, send, fault))
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
  fault: Fault | undefined,
): Promise<Answer> {
  let lastReport: unknown
  let ahead = fault
  const context: CallContext<unknown> = {
    signal,
    report(value) {
      lastReport = send?.(value)
    },
    checkpoint(device) {
      const now = ahead
      ahead = undefined
      applyFault(now, device)
    },
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

function applyFault(fault: Fault | undefined, device: GPUDevice): void {
  if (fault === 'lost-device') device.destroy()
  if (fault === 'out-of-memory') {
    throw new SparseAttentionError('OUT_OF_MEMORY', {
      message: 'The GPU has no memory left (made up, because the address asks for it).',
      fix: 'Choose smaller sizes, or close other pages that use the GPU.',
      where: 'fault',
    })
  }
}
