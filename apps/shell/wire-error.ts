import { SparseAttentionError } from '@sparse-attention/core'
import type { WireError } from './protocol.js'

export const cancelled: WireError = { name: 'AbortError', code: undefined, message: 'Cancelled.' }

/**
 * What engines and onnxruntime-web say where memory runs out: for an array, the wasm heap, a tensor. GPU memory is told by the
 * packages.
 */
const outOfMemory =
  /out of memory|bad_alloc|alloca\w+ failed|(could not|failed to) allocate|Maximum memory size|Invalid (typed )?array length/i

/** An error for the page. Programming mistakes are also written to the console. */
export function toWire(error: unknown): WireError {
  const { name, message } = error instanceof Error ? error : { name: 'Error', message: String(error) }
  if (SparseAttentionError.is(error)) return { name, code: error.code, message }
  if (outOfMemory.test(message)) {
    return toWire(
      new SparseAttentionError('OUT_OF_MEMORY', {
        message: `Memory ran out: ${message.replace(/\.?$/, '.')}`,
        fix: 'Choose smaller sizes, or close other pages.',
        cause: error,
      }),
    )
  }
  console.error(error)
  return { name, code: 'UNEXPECTED', message }
}
