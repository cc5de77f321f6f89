import { createRuntime, type KernelSource, type Runtime } from '@sparse-attention/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { PipelineCache } from './pipelines.js'

let runtime: Runtime

beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime?.dispose())

const source: KernelSource = {
  label: 'store',
  code: `
    @group(0) @binding(0) var<storage, read_write> out: array<u32>;
    @compute @workgroup_size(1) fn main() { out[0] = 1u; }`,
  bindings: ['read_write'],
  workgroupSize: 1,
  workgroupBytes: 0,
}

test('equal sources share a kernel, also while it compiles; others do not', async () => {
  const cache = new PipelineCache(runtime.device)
  const [first, second] = await Promise.all([cache.get(source), cache.get({ ...source })])
  expect(second).toBe(first)
  expect(first.source).toBe(source)
  expect(await cache.get({ ...source, code: `${source.code} // other` })).not.toBe(first)
  expect(cache.size).toBe(2)
})

test('a shader that does not compile is PIPELINE_FAILED with the driver’s words, and is not kept', async () => {
  const cache = new PipelineCache(runtime.device)
  const broken = { ...source, label: 'broken', code: source.code.replace('1u', 'nonsense') }
  const failed = expect.objectContaining({
    code: 'PIPELINE_FAILED',
    where: 'broken',
    message: expect.stringContaining('nonsense'),
  })
  await expect(cache.get(broken)).rejects.toThrow(failed)
  expect(cache.size).toBe(0)
  await expect(cache.get(broken)).rejects.toThrow(failed)
  await cache.get(source)
})

test('a shader that does not compile raises no error that nobody caught', async () => {
  const errors: string[] = []
  const listen = (event: GPUUncapturedErrorEvent) => {
    event.preventDefault()
    errors.push(event.error.message)
  }
  runtime.device.addEventListener('uncapturederror', listen)
  const cache = new PipelineCache(runtime.device)
  const refused = expect.objectContaining({ code: 'PIPELINE_FAILED' })
  await expect(cache.get({ ...source, code: 'fn main(' })).rejects.toThrow(refused)
  await expect(cache.get({ ...source, bindings: [] })).rejects.toThrow(refused)
  await runtime.idle()
  runtime.device.removeEventListener('uncapturederror', listen)
  expect(errors).toEqual([])
})

test.each<[Partial<KernelSource>, string]>([
  [{ workgroupSize: 2 ** 20 }, 'maxComputeInvocationsPerWorkgroup'],
  [{ workgroupBytes: 2 ** 30 }, 'maxComputeWorkgroupStorageSize'],
  [{ bindings: new Array(1000).fill('read') }, 'maxStorageBuffersPerShaderStage'],
])('%j is LIMIT_EXCEEDED by %s before anything is compiled', async (more, limit) => {
  const cache = new PipelineCache(runtime.device)
  const { createShaderModule } = runtime.device
  let compiled = 0
  runtime.device.createShaderModule = (descriptor) => {
    compiled++
    return createShaderModule.call(runtime.device, descriptor)
  }
  try {
    await expect(cache.get({ ...source, ...more })).rejects.toThrow(
      expect.objectContaining({ code: 'LIMIT_EXCEEDED', where: limit, fix: expect.stringContaining(`${limit}: `) }),
    )
  } finally {
    runtime.device.createShaderModule = createShaderModule
  }
  expect(compiled).toBe(0)
  expect(cache.size).toBe(0)
})

test('uniforms do not count as storage buffers', async () => {
  const limits = { ...limitsOf(runtime.device), maxStorageBuffersPerShaderStage: 1 }
  const small = new Proxy(runtime.device, {
    get: (device, key) => {
      const value: unknown = key === 'limits' ? limits : Reflect.get(device, key, device)
      return typeof value === 'function' ? value.bind(device) : value
    },
  })
  const cache = new PipelineCache(small)
  await cache.get({ ...source, bindings: ['read_write', 'uniform'] })
  await expect(cache.get({ ...source, code: `${source.code} `, bindings: ['read_write', 'read'] })).rejects.toThrow(
    expect.objectContaining({ code: 'LIMIT_EXCEEDED', where: 'maxStorageBuffersPerShaderStage' }),
  )
})

/** Limits are getters of a prototype: a spread would miss them. */
function limitsOf(device: GPUDevice): Record<string, number> {
  const limits: Record<string, number> = {}
  for (const name in device.limits) limits[name] = device.limits[name as 'maxBufferSize']
  return limits
}
