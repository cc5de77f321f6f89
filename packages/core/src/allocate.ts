import { SparseAttentionError } from './errors.js'

/** Buffers that there was no memory for: WebGPU gives an object that is not valid, and says so a moment later. */
const missing = new WeakSet<GPUBuffer>()

/** How many of a device's. */
const missingOf = new WeakMap<GPUDevice, number>()

/**
 * Makes a buffer, and remembers if there was no memory for it: `isMissing` tells, from the moment on at which errors of work that
 * uses the buffer arrive. Pools ask it, lest they keep for good what was never there.
 *
 * @throws OUT_OF_MEMORY where the device says so at once
 */
export function allocateBuffer(device: GPUDevice, descriptor: GPUBufferDescriptor): GPUBuffer {
  let buffer: GPUBuffer | undefined
  device.pushErrorScope('out-of-memory')
  try {
    buffer = device.createBuffer(descriptor)
    return buffer
  } catch (cause) {
    throw noMemory(descriptor, cause)
  } finally {
    device.popErrorScope().then(
      (error) => {
        if (!error || !buffer) return
        missing.add(buffer)
        missingOf.set(device, missingCount(device) + 1)
      },
      () => {}, // of a lost device
    )
  }
}

/** All of them or none. @throws OUT_OF_MEMORY as `allocateBuffer` */
export function allocateBuffers(device: GPUDevice, descriptors: readonly GPUBufferDescriptor[]): GPUBuffer[] {
  const made: GPUBuffer[] = []
  try {
    for (const descriptor of descriptors) made.push(allocateBuffer(device, descriptor))
    return made
  } catch (error) {
    for (const buffer of made) buffer.destroy()
    throw error
  }
}

/** Buffers of a device that there was no memory for, as far as the news has come. */
export function missingCount(device: GPUDevice): number {
  return missingOf.get(device) ?? 0
}

/** There was no memory for the buffer. */
export function isMissing(buffer: GPUBuffer): boolean {
  return missing.has(buffer)
}

/** What holds buffers for long, and has just been made. */
export interface HoldsBuffers {
  readonly buffers: readonly GPUBuffer[]
  dispose(): void
}

/**
 * Waits for the news of what is made once and kept for long: gives it back when all of its buffers are there, else disposes of it.
 *
 * @throws OUT_OF_MEMORY where one of the buffers is missing
 */
export async function whenAllocated<Made extends HoldsBuffers>(device: GPUDevice, made: Made): Promise<Made> {
  // Scopes answer in their order: those in which the buffers were made before this one.
  device.pushErrorScope('out-of-memory')
  await device.popErrorScope().catch(() => {}) // of a lost device, which the first use tells
  const lacking = made.buffers.find(isMissing)
  if (!lacking) return made
  made.dispose()
  throw noMemory(lacking)
}

/** What to say where a buffer is missing. */
export function noMemory(
  { label, size }: Pick<GPUBuffer, 'label' | 'size'> | GPUBufferDescriptor,
  cause?: unknown,
): SparseAttentionError {
  return new SparseAttentionError('OUT_OF_MEMORY', {
    message: `The GPU had no memory for ${size} bytes${label ? ` of ${label}` : ''}.`,
    fix: 'Free other tensors, shorten the input, or split the call; then make what was to be there anew.',
    ...(label && { where: label }),
    ...(cause === undefined ? {} : { cause }),
  })
}
