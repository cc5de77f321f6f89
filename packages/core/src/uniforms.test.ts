import { beforeEach, expect, test } from 'vitest'
import { UniformCache } from './uniforms.js'

let written: Map<GPUBuffer, number[]>
let destroyed: number
let outOfMemory: boolean

function device(): GPUDevice {
  return {
    pushErrorScope: () => {},
    popErrorScope: async () => (outOfMemory ? { message: 'none left' } : null),
    createBuffer: ({ size }: GPUBufferDescriptor) => ({ size, destroy: () => destroyed++ }),
    queue: {
      writeBuffer: (buffer: GPUBuffer, _: number, words: Uint32Array) => void written.set(buffer, [...words]),
    },
  } as unknown as GPUDevice
}

beforeEach(() => {
  written = new Map()
  destroyed = 0
  outOfMemory = false
})

test('equal words share a block, others have their own; blocks are padded to 16 bytes', () => {
  const cache = new UniformCache(device())
  const words = Uint32Array.of(1, 2, 3, 4, 5)
  const first = cache.get(words)
  expect(first).toMatchObject({ offsetBytes: 0, sizeBytes: 32 })
  expect(written.get(first.buffer)).toEqual([1, 2, 3, 4, 5, 0, 0, 0])
  expect(cache.get(Uint32Array.from(words)).buffer).toBe(first.buffer)
  words[0] = 9
  expect(cache.get(words).buffer).not.toBe(first.buffer)
  expect(cache.get(Uint32Array.of(1, 23, 4, 5)).buffer).not.toBe(cache.get(Uint32Array.of(12, 3, 4, 5)).buffer)
})

test('a full cache lets the block go that was used longest ago, without destroying it', () => {
  const cache = new UniformCache(device(), 2)
  const get = (n: number) => cache.get(Uint32Array.of(n)).buffer
  const [one, two] = [get(1), get(2)]
  expect(get(1)).toBe(one)
  get(3) // 2 goes
  expect(get(1)).toBe(one)
  expect(get(2)).not.toBe(two)
  expect(destroyed).toBe(0)
})

test('dispose destroys what is held', () => {
  const cache = new UniformCache(device())
  cache.get(Uint32Array.of(1))
  cache.get(Uint32Array.of(2))
  cache.dispose()
  cache.dispose()
  expect(destroyed).toBe(2)
})

test('a block that there was no memory for is not kept', async () => {
  const cache = new UniformCache(device())
  outOfMemory = true
  const first = cache.get(Uint32Array.of(1)).buffer
  await Promise.resolve()
  outOfMemory = false
  const second = cache.get(Uint32Array.of(1)).buffer
  expect(second).not.toBe(first)
  expect(cache.get(Uint32Array.of(1)).buffer).toBe(second)
})
