import { missingCount } from './allocate.js'
import { SparseAttentionError } from './errors.js'
import type { Runtime } from './runtime.js'

/**
 * Runs synchronous GPU calls inside error scopes. `check` rejects when the GPU refused them; no other call can come
 * between push and pop, so concurrent calls do not see each other's errors.
 *
 * @returns what `work` returns, and a promise that rejects with OUT_OF_MEMORY, INVALID_ARGUMENT or DEVICE_LOST; it need not be awaited
 */
export function guarded<T>(runtime: Runtime, work: () => T): { value: T; check: Promise<void> } {
  const { device } = runtime
  const lacked = missingCount(device)
  device.pushErrorScope('out-of-memory')
  device.pushErrorScope('validation')
  const pop = async (invalid: Promise<GPUError | null>, outOfMemory: Promise<GPUError | null>) => {
    // Together: of a lost device both may reject.
    const found = await Promise.all([runtime.whileAlive(outOfMemory), runtime.whileAlive(invalid)])
    const failure = describeGpuError(...found, missingCount(device) > lacked)
    if (failure) throw failure
  }
  try {
    const value = work()
    const check = pop(device.popErrorScope(), device.popErrorScope())
    check.catch(() => {}) // awaited by the caller later; until then not an unhandled rejection
    return { value, check }
  } catch (error) {
    pop(device.popErrorScope(), device.popErrorScope()).catch(() => {})
    throw error
  }
}

function describeGpuError(
  outOfMemory: GPUError | null,
  invalid: GPUError | null,
  /** A buffer has turned out to be missing meanwhile: that is what the GPU refused. */
  lacks: boolean,
): SparseAttentionError | undefined {
  if (outOfMemory || (lacks && invalid)) {
    const { message } = (outOfMemory ?? invalid)!
    return new SparseAttentionError('OUT_OF_MEMORY', {
      message: `The GPU is out of memory: ${message.trim().replace(/\.$/, '')}.`,
      fix: 'Free other tensors, shorten the input, or split the call.',
    })
  }
  if (invalid) {
    return new SparseAttentionError('INVALID_ARGUMENT', {
      message: `The GPU refused the work: ${invalid.message.trim().replace(/\.$/, '')}.`,
      fix: 'Check that no tensor was destroyed and that all of them belong to this device.',
    })
  }
  return undefined
}
