import { beforeEach, describe, expect, test } from 'vitest'
import { Arena, type ScratchLease } from './arena.js'

let live: Set<GPUBuffer>
let created: number
let outOfMemory: boolean

/** Just enough of a device: buffers that know whether they are destroyed. */
function device(limits: Partial<GPUSupportedLimits> = {}): GPUDevice {
  return {
    limits: { maxBufferSize: 1 << 20, maxStorageBufferBindingSize: 1 << 20, ...limits },
    pushErrorScope: () => {},
    popErrorScope: async () => (outOfMemory ? { message: 'none left' } : null),
    createBuffer: ({ size }: GPUBufferDescriptor) => {
      const buffer = { size, destroy: () => live.delete(buffer) } as unknown as GPUBuffer
      live.add(buffer)
      created++
      return buffer
    },
  } as unknown as GPUDevice
}

const lease = (arena: Arena): ScratchLease => arena.lease({ submitted: true })

beforeEach(() => {
  live = new Set()
  created = 0
  outOfMemory = false
})

describe('reuse', () => {
  test('a released buffer serves the next lease; one in use does not', () => {
    const arena = new Arena(device(), 1 << 20)
    const first = lease(arena)
    const a = first.allocate(1000)
    expect(first.allocate(1000).buffer).not.toBe(a.buffer)
    expect(lease(arena).allocate(1000).buffer).not.toBe(a.buffer)
    first.release()
    const next = lease(arena)
    expect([next.allocate(900).buffer, next.allocate(1000).buffer]).toContain(a.buffer)
    expect(created).toBe(3)
  })

  test('a buffer that there was no memory for is never given again, and goes with the rest', async () => {
    const arena = new Arena(device(), 1 << 20)
    outOfMemory = true
    const first = lease(arena)
    const missing = first.allocate(1000).buffer
    await Promise.resolve()
    outOfMemory = false
    first.release()
    expect(lease(arena).allocate(1000).buffer).not.toBe(missing)
    arena.trim()
    expect([live.size, arena.allocatedBytes]).toEqual([1, 1024])
    expect(live.has(missing)).toBe(false)
  })

  test('lengths that grow a little share a size, and slices are as asked for', () => {
    const arena = new Arena(device(), 1 << 20)
    const sizes = [1, 200, 256, 257, 384, 385, 512, 700, 1000]
    const buffers = sizes.map((size) => {
      const own = lease(arena)
      const slice = own.allocate(size)
      own.release()
      expect(slice).toMatchObject({ offsetBytes: 0, sizeBytes: Math.ceil(size / 16) * 16 })
      return slice.buffer.size
    })
    expect(buffers).toEqual([256, 256, 256, 384, 384, 512, 512, 768, 1024])
  })

  test('releasing twice puts a buffer back once', () => {
    const arena = new Arena(device(), 1 << 20)
    const own = lease(arena)
    own.allocate(100)
    own.release()
    own.release()
    const [a, b] = [lease(arena).allocate(100), lease(arena).allocate(100)]
    expect(a.buffer).not.toBe(b.buffer)
  })

  test('a lease may go on after its release', () => {
    const arena = new Arena(device(), 1 << 20)
    const own = lease(arena)
    own.allocate(100)
    own.release()
    own.allocate(100)
    own.release()
    expect(created).toBe(1)
  })
})

describe('the budget', () => {
  test('what does not fit is OUT_OF_MEMORY, and nothing is created', () => {
    const arena = new Arena(device(), 2048)
    const own = lease(arena)
    own.allocate(1024)
    expect(() => own.allocate(1025)).toThrow(
      expect.objectContaining({ code: 'OUT_OF_MEMORY', where: 'scratchBudgetBytes' }),
    )
    expect(created).toBe(1)
    expect(arena.allocatedBytes).toBe(1024)
    own.allocate(1024)
    expect(arena.allocatedBytes).toBe(2048)
  })

  test('idle buffers make way, largest first; those in use stay', () => {
    const arena = new Arena(device(), 4096)
    const [small, large, used] = [lease(arena), lease(arena), lease(arena)]
    const smallBuffer = small.allocate(256).buffer
    const largeBuffer = large.allocate(2048).buffer
    const usedBuffer = used.allocate(1024).buffer
    small.release()
    large.release()
    lease(arena).allocate(1536)
    expect([live.has(smallBuffer), live.has(largeBuffer), live.has(usedBuffer)]).toEqual([true, false, true])
    expect(arena.allocatedBytes).toBe(256 + 1024 + 1536)
  })

  test('a buffer that an encoder may hold makes way undestroyed, until the arena is disposed of', () => {
    const arena = new Arena(device(), 1024)
    const recorded = arena.lease({ submitted: false })
    const buffer = recorded.allocate(512).buffer
    recorded.release()
    lease(arena).allocate(1024)
    expect(live.has(buffer)).toBe(true)
    expect(arena.allocatedBytes).toBe(1024)

    const other = new Arena(device(), 1024)
    const again = other.lease({ submitted: false })
    const idle = again.allocate(512).buffer
    again.release()
    other.dispose()
    expect(live.has(idle)).toBe(false)
  })

  test('a buffer above the device limits is LIMIT_EXCEEDED, naming the limit', () => {
    const arena = new Arena(device({ maxStorageBufferBindingSize: 512 }), 1 << 20)
    expect(() => lease(arena).allocate(513)).toThrow(
      expect.objectContaining({ code: 'LIMIT_EXCEEDED', where: 'maxStorageBufferBindingSize' }),
    )
    expect(created).toBe(0)
  })
})

describe('the end', () => {
  test('dispose frees idle buffers at once and leased ones when they come back', () => {
    const arena = new Arena(device(), 1 << 20)
    const [idle, used] = [lease(arena), lease(arena)]
    idle.allocate(100)
    used.allocate(1000)
    idle.release()
    arena.dispose()
    expect(live.size).toBe(1)
    used.release()
    expect(live.size).toBe(0)
    expect(arena.allocatedBytes).toBe(0)
    arena.dispose()
  })

  test('no lease after dispose', () => {
    const arena = new Arena(device(), 1 << 20)
    arena.dispose()
    expect(() => lease(arena)).toThrow(expect.objectContaining({ code: 'DISPOSED' }))
  })
})
