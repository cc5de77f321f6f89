import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, test } from 'vitest'
import { BindGroupCache } from './bind-groups.js'
import type { Kernel } from './dispatch.js'
import type { BufferSlice } from './tensor.js'

/** Just enough of a device: it counts, and a group is what it was asked for. */
function makeDevice() {
  const made: GPUBindGroupDescriptor[] = []
  const createBindGroup = (descriptor: GPUBindGroupDescriptor) => {
    made.push(descriptor)
    return { number: made.length }
  }
  return { made, device: { createBindGroup } as unknown as GPUDevice }
}
const makeKernel = () => ({ bindGroupLayout: {} }) as Kernel
const slice = (offsetBytes = 0, sizeBytes = 64, buffer = {} as GPUBuffer): BufferSlice => ({
  buffer,
  offsetBytes,
  sizeBytes,
})

test('what is bound again gets the group that it had', () => {
  const { made, device } = makeDevice()
  const cache = new BindGroupCache(device)
  const kernel = makeKernel()
  const [a, b] = [slice(), slice(256, 128)]
  const group = cache.get(kernel, [a, b])
  for (let i = 0; i < 50; i++) expect(cache.get(kernel, [{ ...a }, { ...b }])).toBe(group)
  expect(cache.size).toBe(1)
  expect(made).toEqual([
    {
      layout: kernel.bindGroupLayout,
      entries: [
        { binding: 0, resource: { buffer: a.buffer, offset: 0, size: 64 } },
        { binding: 1, resource: { buffer: b.buffer, offset: 256, size: 128 } },
      ],
    },
  ])
})

test('another layout, buffer, order, offset or size is another group', () => {
  const { device } = makeDevice()
  const cache = new BindGroupCache(device)
  const [kernel, a, b] = [makeKernel(), slice(), slice()]
  const groups = [
    cache.get(kernel, [a, b]),
    cache.get(makeKernel(), [a, b]),
    cache.get(kernel, [b, a]),
    cache.get(kernel, [a]),
    cache.get(kernel, [a, slice()]),
    cache.get(kernel, [a, slice(256, 64, b.buffer)]),
    cache.get(kernel, [a, slice(0, 32, b.buffer)]),
  ]
  expect(new Set(groups).size).toBe(groups.length)
})

test('holds so many groups at most: those that were not used for longest go', () => {
  const { made, device } = makeDevice()
  const cache = new BindGroupCache(device, 3)
  const kernel = makeKernel()
  const slices = Array.from({ length: 4 }, () => slice())
  const first = cache.get(kernel, [slices[0]!])
  for (const each of slices) {
    cache.get(kernel, [each])
    expect(cache.get(kernel, [slices[0]!])).toBe(first)
  }
  expect([cache.size, made.length]).toEqual([3, 4])
  cache.get(kernel, [slices[1]!])
  expect(made.length).toBe(5)
})

test('lets go of a group when nobody else holds one of its buffers', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const { device } = makeDevice()
  device.createBindGroup = () => ({}) as GPUBindGroup
  const cache = new BindGroupCache(device)
  const kernel = makeKernel()
  const kept = slice()
  cache.get(kernel, [kept])
  for (let i = 0; i < 5; i++) cache.get(kernel, [kept, slice()])
  expect(cache.size).toBe(6)
  for (let tries = 0; tries < 50 && cache.size > 1; tries++) {
    collect()
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  expect(cache.size).toBe(1)
  expect(cache.get(kernel, [kept])).toBeDefined()
})
