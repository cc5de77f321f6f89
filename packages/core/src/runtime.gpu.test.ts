import { createRuntime, type Runtime, SparseAttentionError, tensorView } from '@sparse-attention/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ErrorCode } from './errors.js'
import { createRuntime as createBareRuntime } from './runtime.js'
import { permute } from './tensor.js'
import { config, disposeAll, expectedResult, makeTensors, scaledCopy, watch } from './test-support.js'

let runtime: Runtime

beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime?.dispose())

const refusal = (code: ErrorCode, where?: string) => expect.objectContaining(where ? { code, where } : { code })

describe('creation', () => {
  test('reports its tier and what the device offers of the others', () => {
    expect(runtime.tierReports.map((r) => r.tier)).toEqual(['matrix', 'f16', 'portable'])
    expect(runtime.tierReports.find((r) => r.tier === runtime.tier)).toMatchObject({ offered: true, implemented: true })
  })

  test('without WebGPU or an adapter: WEBGPU_UNAVAILABLE', async () => {
    const none = { requestAdapter: async () => null } as unknown as GPU
    await expect(createBareRuntime({ gpu: none })).rejects.toThrow(refusal('WEBGPU_UNAVAILABLE'))
    await expect(createRuntime({ gpu: none })).rejects.toThrow(refusal('WEBGPU_UNAVAILABLE'))
  })

  test('a tier that is not there: TIER_UNAVAILABLE, and the device made for it is destroyed', async () => {
    const counts = { destroyed: 0 }
    const device = {
      features: new Set(),
      limits: {},
      lost: new Promise(() => {}),
      destroy: () => counts.destroyed++,
    }
    const adapter = { features: new Set(), limits: {}, requestDevice: async () => device }
    const gpu = { requestAdapter: async () => adapter } as unknown as GPU
    await expect(createBareRuntime({ gpu, tier: 'matrix' })).rejects.toThrow(refusal('TIER_UNAVAILABLE'))
    expect(counts.destroyed).toBe(1)
    await expect(createRuntime({ device: device as never, tier: 'matrix' })).rejects.toThrow(
      refusal('TIER_UNAVAILABLE'),
    )
    expect(counts.destroyed).toBe(1) // that one was borrowed
    await expect(createRuntime({ device: device as never, tier: 'best' as never })).rejects.toThrow(
      refusal('INVALID_OPTION'),
    )
  })

  test('an implemented tier can be forced', async () => {
    using forced = await createRuntime({ device: runtime.device, tier: 'portable' })
    expect(forced.tier).toBe('portable')
  })

  test('the work budget can be set in part', async () => {
    using cutting = await createRuntime({ device: runtime.device, work: { operationsPerSubmit: 7 } })
    expect(cutting.work).toEqual({ ...runtime.work, operationsPerSubmit: 7 })
  })

  test('whether the adapter runs on the CPU can be told, and decides the budget', async () => {
    using hardware = await createRuntime({ device: runtime.device, software: false })
    using software = await createRuntime({ device: runtime.device, software: true })
    expect(hardware.work.operationsPerDispatch).toBeGreaterThan(100 * software.work.operationsPerDispatch)
  })
})

describe('tensors', () => {
  test.each(['f32', 'f16'] as const)('%s values come back, odd counts too; no data means zeros', async (dtype) => {
    for (const count of [1, 2, 3, 7]) {
      const values = Float32Array.from({ length: count }, (_, i) => i + 0.5)
      using tensor = runtime.tensor(dtype, [count], values)
      expect(await runtime.read(tensor)).toEqual(values)
      using empty = runtime.tensor(dtype, [count])
      expect(await runtime.read(empty)).toEqual(new Float32Array(count))
    }
  })

  test('f16 takes halves as they are and rounds floats; f32 widens halves', async () => {
    using halves = runtime.tensor('f16', [2], Uint16Array.of(0x3c00, 0x7bff))
    expect([...(await runtime.read(halves))]).toEqual([1, 65504])
    using rounded = runtime.tensor('f16', [2], Float32Array.of(2049, 1e6))
    expect([...(await runtime.read(rounded))]).toEqual([2048, Number.POSITIVE_INFINITY])
    using widened = runtime.tensor('f32', [2], Uint16Array.of(0x3c00, 0xc000))
    expect([...(await runtime.read(widened))]).toEqual([1, -2])
  })

  test('data may be a view into a larger array', async () => {
    const large = Float32Array.from({ length: 10 }, (_, i) => i)
    using tensor = runtime.tensor('f32', [3], large.subarray(4, 7))
    expect([...(await runtime.read(tensor))]).toEqual([4, 5, 6])
    using odd = runtime.tensor('f16', [3], Uint16Array.from({ length: 8 }, (_, i) => 0x3c00 + i).subarray(1, 4))
    expect([...(await runtime.read(odd))]).toEqual([1 + 1 / 1024, 1 + 2 / 1024, 1 + 3 / 1024])
  })

  test.each(['f32', 'f16'] as const)('%s views are read in the order of their shape', async (dtype) => {
    const values = Float32Array.from({ length: 2 * 3 * 5 }, (_, i) => i)
    using tensor = runtime.tensor(dtype, [2, 3, 5], values)
    const swapped = await runtime.read(permute(tensor, [2, 0, 1]))
    expect([...swapped]).toEqual(
      Array.from({ length: 30 }, (_, i) => (Math.floor(i / 3) % 2) * 15 + (i % 3) * 5 + Math.floor(i / 6)),
    )
    for (const offset of [0, 1, 2, 3]) {
      const view = tensorView(tensor.buffer, dtype, [2, 3], { strides: [11, 4], offset })
      expect([...(await runtime.read(view))]).toEqual([0, 4, 8, 11, 15, 19].map((i) => i + offset))
    }
    expect([
      ...(await runtime.read(tensorView(tensor.buffer, dtype, [2, 2], { strides: [0, 1], offset: 28 }))),
    ]).toEqual([28, 29, 28, 29])
  })

  test.each<[string, unknown[], ErrorCode]>([
    ['a size of zero', ['f32', [2, 0]], 'INVALID_SHAPE'],
    ['a negative size', ['f32', [-2]], 'INVALID_SHAPE'],
    ['two negative sizes', ['f32', [-2, -3]], 'INVALID_SHAPE'],
    ['half an element', ['f32', [2, 1.5]], 'INVALID_SHAPE'],
    ['NaN', ['f32', [Number.NaN]], 'INVALID_SHAPE'],
    ['no axes', ['f32', []], 'INVALID_SHAPE'],
    ['an unknown dtype', ['f64', [2]], 'INVALID_DTYPE'],
    ['too little data', ['f32', [3], new Float32Array(2)], 'BUFFER_TOO_SMALL'],
    ['too much data', ['f16', [3], new Uint16Array(4)], 'BUFFER_TOO_SMALL'],
    ['more than a buffer holds', ['f32', [2 ** 30, 2 ** 20]], 'LIMIT_EXCEEDED'],
  ])('%s: refused, and nothing is left behind', (_, args, code) => {
    using watched = watch(runtime.device)
    expect(() => runtime.tensor(...(args as Parameters<Runtime['tensor']>))).toThrow(refusal(code))
    expect(watched.live()).toBe(0)
  })

  test('dispose frees the buffer, and may be called twice', () => {
    using watched = watch(runtime.device)
    const tensor = runtime.tensor('f32', [2])
    expect(watched.live()).toBe(1)
    tensor.dispose()
    tensor.dispose()
    tensor[Symbol.dispose]()
    expect(watched.live()).toBe(0)
  })
})

describe('reading back', () => {
  test('uses one staging buffer and frees it', async () => {
    using tensor = runtime.tensor('f32', [4])
    using watched = watch(runtime.device)
    await runtime.read(tensor)
    expect(watched.counts).toMatchObject({ created: 1, maps: 1 })
    expect(watched.live()).toBe(0)
  })

  test('a disposed tensor is an error, not zeros', async () => {
    const tensor = runtime.tensor('f32', [4], Float32Array.of(1, 2, 3, 4))
    tensor.dispose()
    using watched = watch(runtime.device)
    await expect(runtime.read(tensor)).rejects.toThrow(refusal('INVALID_ARGUMENT'))
    expect(watched.live()).toBe(0)
  })

  test('a buffer that cannot be copied from is an error, not zeros', async () => {
    const buffer = runtime.device.createBuffer({ size: 16, usage: GPUBufferUsage.STORAGE })
    using watched = watch(runtime.device)
    await expect(runtime.read(tensorView(buffer, 'f32', [4]))).rejects.toThrow(refusal('INVALID_ARGUMENT'))
    expect(watched.live()).toBe(0)
    buffer.destroy()
  })

  test('a malformed view is refused before a buffer is made', async () => {
    using tensor = runtime.tensor('f32', [4])
    using watched = watch(runtime.device)
    await expect(runtime.read({ ...tensor, shape: [5] })).rejects.toThrow(refusal('BUFFER_TOO_SMALL'))
    expect(watched.counts.created).toBe(0)
  })
})

describe('the end of a runtime', () => {
  test('a borrowed device is never destroyed', async () => {
    const { destroy } = runtime.device
    let destroyed = 0
    runtime.device.destroy = () => void destroyed++
    const borrower = await createRuntime({ device: runtime.device })
    const attention = await borrower.use(scaledCopy(), config)
    const tensors = makeTensors(borrower)
    disposeAll({ ...tensors, ...(await attention.run(tensors)) })
    attention.dispose()
    borrower.dispose()
    borrower[Symbol.dispose]()
    runtime.device.destroy = destroy
    expect(destroyed).toBe(0)
    using tensor = runtime.tensor('f32', [1], Float32Array.of(7))
    expect((await runtime.read(tensor))[0]).toBe(7)
  })

  test('what a borrower allocated is freed with it', async () => {
    using watched = watch(runtime.device)
    const borrower = await createRuntime({ device: runtime.device })
    const attention = await borrower.use(scaledCopy(), config)
    const tensors = makeTensors(borrower)
    disposeAll({ ...tensors, ...(await attention.run(tensors)) })
    attention.dispose()
    borrower.dispose()
    expect(watched.live()).toBe(0)
  })

  test('every call on a disposed runtime is DISPOSED, also when its device has gone', async () => {
    const own = await createRuntime()
    const attention = await own.use(scaledCopy(), config)
    const tensors = makeTensors(own)
    const { plan } = await attention.run(tensors)
    own.dispose()
    own.dispose()
    expect(own.disposed).toBe(true)
    const kernel = { label: '', code: '', bindings: [], workgroupSize: 1, workgroupBytes: 0 }
    for (const wait of [Promise.resolve(), own.lost]) {
      await wait
      expect(() => own.assertUsable()).toThrow(refusal('DISPOSED', 'runtime'))
      expect(() => own.tensor('f32', [1])).toThrow(refusal('DISPOSED'))
      await expect(own.use(scaledCopy(), config)).rejects.toThrow(refusal('DISPOSED'))
      await expect(own.kernel(kernel)).rejects.toThrow(refusal('DISPOSED'))
      await expect(own.read(tensors.q)).rejects.toThrow(refusal('DISPOSED'))
      await expect(attention.run(tensors)).rejects.toThrow(refusal('DISPOSED'))
      await expect(plan.read()).rejects.toThrow(refusal('DISPOSED'))
    }
    attention.dispose()
  })
})

describe('a lost device', () => {
  test('rejects what is pending and what comes later with DEVICE_LOST; a new runtime works', async () => {
    const own = await createRuntime({ work: { operationsPerSubmit: 1e6 } })
    const attention = await own.use(scaledCopy(), config)
    const tensors = makeTensors(own)
    const started = attention.run(tensors)
    const queued = attention.run(tensors)
    const reading = own.read(tensors.q)
    const idling = own.idle()
    own.device.destroy() // what a reset of the driver does, as far as the runtime can see
    const [ran, waited, read, idled] = await Promise.allSettled([started, queued, reading, idling])
    const lost = { status: 'rejected', reason: refusal('DEVICE_LOST', 'device') }
    expect([ran, waited, read]).toEqual([lost, lost, lost])
    // Whether the queue counts as done when its device is gone is up to the implementation.
    if (idled?.status === 'rejected') expect(idled).toEqual(lost)

    expect(SparseAttentionError.is(await own.lost)).toBe(true)
    expect((await own.lost).code).toBe('DEVICE_LOST')
    await expect(attention.run(tensors)).rejects.toThrow(refusal('DEVICE_LOST'))
    expect(() => own.tensor('f32', [1])).toThrow(refusal('DEVICE_LOST'))
    await expect(own.use(scaledCopy(), config)).rejects.toThrow(refusal('DEVICE_LOST'))
    await expect(own.read(tensors.q)).rejects.toThrow(refusal('DEVICE_LOST'))
    attention.dispose()
    own.dispose()

    using fresh = await createRuntime()
    using again = await fresh.use(scaledCopy(), config)
    const result = await again.run(makeTensors(fresh))
    expect([...(await fresh.read(result.out))]).toEqual(expectedResult(1, 2).out)
  })

  test('while a kernel compiles: DEVICE_LOST', async () => {
    const own = await createRuntime()
    const compiling = own.use(scaledCopy(), config)
    own.device.destroy()
    await expect(compiling).rejects.toThrow(refusal('DEVICE_LOST'))
    own.dispose()
  })

  test('between two submits of a run: the run is DEVICE_LOST and its outputs are freed', async () => {
    const own = await createRuntime({ work: { operationsPerSubmit: 1e6 } })
    const attention = await own.use(scaledCopy(), config)
    const tensors = makeTensors(own)
    disposeAll({ ...(await attention.run(tensors)), q: tensors.q, k: tensors.k, v: tensors.v })
    const again = makeTensors(own)
    using watched = watch(own.device)
    watched.onSubmit = (submits) => submits === 3 && own.device.destroy()
    await expect(attention.run(again)).rejects.toThrow(refusal('DEVICE_LOST'))
    expect(watched.counts.submits).toBeLessThan(9)
    expect(watched.live()).toBe(0)
    own.dispose()
  })

  test('a borrowed device that is lost is noticed too', async () => {
    const owner = await createRuntime()
    const borrower = await createRuntime({ device: owner.device })
    owner.dispose()
    expect((await borrower.lost).code).toBe('DEVICE_LOST')
    expect(() => borrower.assertUsable()).toThrow(refusal('DEVICE_LOST'))
    borrower.dispose()
  })
})
