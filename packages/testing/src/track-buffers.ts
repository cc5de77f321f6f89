/** What a device did with buffers since `trackBuffers`. */
export interface BufferTracker extends Disposable {
  /** Buffers created and not destroyed yet. */
  readonly live: number
  readonly liveBytes: number
  /** Of the live ones. */
  readonly labels: readonly string[]
  readonly created: number
  /** Calls of `mapAsync`: read-backs, and the uploads that map. */
  readonly maps: number
  /** Stops counting. */
  dispose(): void
}

/**
 * Counts the buffers that a device creates, destroys and maps, to show that memory stays constant and that nothing is
 * read back. Trackers nest: dispose them in reverse order.
 */
export function trackBuffers(device: GPUDevice): BufferTracker {
  const live = new Set<GPUBuffer>()
  let created = 0
  let maps = 0
  const createBuffer = device.createBuffer
  device.createBuffer = (descriptor) => {
    const buffer = createBuffer.call(device, descriptor)
    const { destroy, mapAsync } = buffer
    created++
    live.add(buffer)
    buffer.destroy = () => {
      live.delete(buffer)
      return destroy.call(buffer)
    }
    buffer.mapAsync = (...args) => {
      maps++
      return mapAsync.apply(buffer, args)
    }
    return buffer
  }
  const dispose = () => {
    device.createBuffer = createBuffer
  }
  return {
    get live() {
      return live.size
    },
    get liveBytes() {
      return [...live].reduce((sum, buffer) => sum + buffer.size, 0)
    },
    get labels() {
      return [...live].map(({ label }) => label)
    },
    get created() {
      return created
    },
    get maps() {
      return maps
    },
    dispose,
    [Symbol.dispose]: dispose,
  }
}
