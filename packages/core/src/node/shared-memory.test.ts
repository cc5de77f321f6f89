import { createRuntime, type Runtime } from '@sparse-attention/core/node'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { acceptSharedMemory } from './shared-memory.js'

describe('writeBuffer from shared memory', () => {
  let runtime: Runtime
  let device: GPUDevice
  beforeAll(async () => {
    runtime = await createRuntime()
    device = runtime.device
  })
  afterAll(() => runtime.dispose())

  type Write = [offset: number, data: AllowSharedBufferSource, dataOffset?: number, size?: number]

  /** Writes into a buffer of 32 bytes of 0xee and returns its bytes. */
  async function written(...args: Write) {
    const buffer = device.createBuffer({ size: 32, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ })
    device.queue.writeBuffer(buffer, 0, new Uint8Array(32).fill(0xee))
    device.queue.writeBuffer(buffer, ...(args as [number, BufferSource, number?, number?]))
    await buffer.mapAsync(GPUMapMode.READ)
    const bytes = [...new Uint8Array(buffer.getMappedRange())]
    buffer.destroy()
    return bytes
  }

  const bytes = Uint8Array.from({ length: 24 }, (_, i) => i)
  const shared = new SharedArrayBuffer(24)
  new Uint8Array(shared).set(bytes)

  // Each case is written from ordinary and from shared memory: the meaning is that of ordinary memory.
  const cases: [string, (memory: ArrayBufferLike) => Write][] = [
    ['a whole buffer', (memory) => [0, memory]],
    ['a buffer with offset and size in bytes', (memory) => [4, memory, 8, 12]],
    ['a Float32Array inside its buffer', (memory) => [8, new Float32Array(memory, 4, 3)]],
    ['a Uint16Array with offset and size in elements', (memory) => [4, new Uint16Array(memory, 2, 10), 2, 6]],
    ['a Float64Array with an offset only', (memory) => [0, new Float64Array(memory), 1]],
    ['nothing', (memory) => [0, new Uint8Array(memory, 0, 0)]],
  ]
  test.each(cases)('%s', async (_, args) => {
    expect(await written(...args(shared))).toEqual(await written(...args(bytes.buffer)))
  })

  test('a DataView, shared or not, with offset and size in bytes', async () => {
    const expected = await written(12, bytes, 8, 8)
    expect(await written(12, new DataView(bytes.buffer, 4), 4, 8)).toEqual(expected)
    expect(await written(12, new DataView(shared, 4), 4, 8)).toEqual(expected)
  })

  test.each([
    ['size', [0, 0, 7]],
    ['offset', [0, 7]],
    ['offset and size', [0, 4, 3]],
  ] as const)('a range outside the data throws, by its %s', async (_, [offset, dataOffset, size]) => {
    const ordinary = new Float32Array(bytes.buffer)
    await expect(written(offset, ordinary, dataOffset, size)).rejects.toThrow()
    await expect(written(offset, new Float32Array(shared), dataOffset, size)).rejects.toThrow()
  })

  test('a size of bytes that is no multiple of 4 throws', async () => {
    await expect(written(0, new Uint8Array(shared), 0, 3)).rejects.toThrow()
  })
})

test('a prototype is wrapped once', () => {
  const calls: unknown[] = []
  const prototype = { writeBuffer: (...args: unknown[]) => calls.push(args) } as unknown as GPUQueue
  acceptSharedMemory(prototype)
  const { writeBuffer } = prototype
  acceptSharedMemory(prototype)
  expect(prototype.writeBuffer).toBe(writeBuffer)
  prototype.writeBuffer({} as GPUBuffer, 0, new SharedArrayBuffer(8))
  expect(calls).toHaveLength(1)
})
