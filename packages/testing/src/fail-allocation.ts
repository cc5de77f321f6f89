/** How a device says that it has no memory for a buffer. */
export type AllocationFailure =
  /** The buffer is invalid, and an error scope or `uncapturederror` hears of it: what WebGPU specifies. */
  | 'reported'
  /** `createBuffer` throws a RangeError, as for memory that is mapped when it is made. */
  | 'thrown'

/** A device that fails to make one buffer. */
export interface FailingAllocation extends Disposable {
  /** Buffers that were asked for so far. */
  readonly asked: number
  /** Whether the one that fails was among them. */
  readonly failed: boolean
  /** Makes buffers as before. */
  dispose(): void
}

interface Scope {
  readonly filter: GPUErrorFilter
  error?: GPUError
}

/**
 * Lets a device fail to make the `at`-th buffer from now on, counted from 1, and no other. Error scopes that are open when this is
 * called must have been closed before the buffer is asked for.
 */
export function failAllocation(device: GPUDevice, at: number, how: AllocationFailure): FailingAllocation {
  const { createBuffer, pushErrorScope, popErrorScope } = device
  const scopes: Scope[] = []
  let asked = 0
  device.pushErrorScope = (filter) => {
    scopes.push({ filter })
    pushErrorScope.call(device, filter)
  }
  device.popErrorScope = () => {
    const error = scopes.pop()?.error
    const found = popErrorScope.call(device)
    return error ? found.then(() => error) : found
  }
  device.createBuffer = (descriptor) => {
    if (++asked !== at) return createBuffer.call(device, descriptor)
    const message = `no memory for ${descriptor.size} bytes`
    if (how === 'thrown') throw new RangeError(message)
    const scope = scopes.findLast(({ filter }) => filter === 'out-of-memory')
    if (scope) scope.error = { message } as GPUError
    // No usage makes a buffer invalid, too; the scope keeps that to ourselves.
    pushErrorScope.call(device, 'validation')
    const buffer = createBuffer.call(device, { ...descriptor, usage: 0 })
    void popErrorScope.call(device).catch(() => {})
    Object.defineProperty(buffer, 'usage', { value: descriptor.usage })
    return buffer
  }
  const dispose = () => Object.assign(device, { createBuffer, pushErrorScope, popErrorScope })
  return {
    get asked() {
      return asked
    },
    get failed() {
      return asked >= at
    },
    dispose,
    [Symbol.dispose]: dispose,
  }
}
