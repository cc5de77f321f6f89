import { dense } from '@sparse-attention/kernels'
import { beforeAll, expect, test, vi } from 'vitest'
import { countRuns, createHarness, type Harness } from '../../test/harness.js'
import { tinyLlamaModel, tinyPrompt } from '../../test/tiny-llama.js'
import type { AttentionModel, GenerateOptions } from '../index.js'

// On software adapters, compiling onnxruntime-web's shaders takes most of the time.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 })

let harness: Harness
beforeAll(async () => {
  harness = await createHarness('webgpu')
})

const load = (capacity?: number) =>
  harness.load(tinyLlamaModel(), {
    cache: true,
    attention: () => ({ prefill: dense(), decode: dense({ kernel: 'split' }) }),
    preferredOutputLocation: 'gpu-buffer',
    ...(capacity !== undefined && { captureSteps: { capacity } }),
  })

async function write(model: AttentionModel, prompt: readonly number[], options: GenerateOptions) {
  const written: { token: number; logProbability: number }[] = []
  for await (const { token, logProbability } of model.generate(prompt, options)) written.push({ token, logProbability })
  return written
}

test('recorded steps write the same text, read back only logits, bind nothing anew, and end where they have no room', async () => {
  await using plain = await load()
  await using model = await load(tinyPrompt.length + 7)
  expect(plain.describe().capturedSteps).toEqual({ used: false, reason: 'captureSteps is not set' })
  expect(model.describe().capturedSteps).toEqual({ used: true, reason: 'single tokens are recorded' })
  const expected = await write(plain, tinyPrompt, { maxNewTokens: 12 })

  using cache = await model.createCache({ capacity: 80 })
  const written: { token: number; logProbability: number }[] = []
  const { device } = harness.runtime
  const { createBindGroup } = device
  const mapAsync = GPUBuffer.prototype.mapAsync
  let [maps, bindGroups] = [0, 0]
  using ort = countRuns(harness.ort)
  const perToken: { maps: number; bindGroups: number; runs: number; captured: boolean }[] = []
  GPUBuffer.prototype.mapAsync = function (...args) {
    maps++
    return mapAsync.apply(this, args)
  }
  device.createBindGroup = (descriptor) => {
    bindGroups++
    return createBindGroup.call(device, descriptor)
  }
  try {
    const options = { cache, maxNewTokens: 12, hostTimes: true }
    for await (const { token, logProbability, hostTimes } of model.generate(tinyPrompt, options)) {
      written.push({ token, logProbability })
      const { captured, piecesMs, attentionsMs } = hostTimes!
      expect([piecesMs.length, attentionsMs.length]).toEqual([model.describe().pieces, 2])
      perToken.push({ maps, bindGroups, runs: ort.runs, captured })
      maps = bindGroups = ort.runs = 0
    }
  } finally {
    GPUBuffer.prototype.mapAsync = mapAsync
    device.createBindGroup = createBindGroup
  }
  expect(written.map(({ token }) => token)).toEqual(expected.map(({ token }) => token))
  // The same operators in another order of sums: a few hundred float32 roundings of 6e-8.
  for (const [i, { logProbability }] of written.entries()) {
    expect(Math.abs(logProbability - expected[i]!.logProbability)).toBeLessThan(1e-4)
  }
  expect(model.describe().capturedSteps.used).toBe(true)
  // Tokens 3 to 8 are recorded steps: the one before is computed both ways, those after have no room. Logits are read back.
  expect(perToken.slice(2, 12).map(({ maps }) => maps)).toEqual(new Array(10).fill(1))
  expect(perToken.map(({ captured }) => captured)).toEqual(perToken.map((_, n) => n >= 2 && n <= 7))
  // What onnxruntime-web dispatches is on tape: it is not called.
  expect(perToken.slice(2, 8).map(({ runs }) => runs)).toEqual(new Array(6).fill(0))
  expect(perToken[8]!.runs).toBeGreaterThan(0)
  // What is recorded binds nothing anew: what is left is appending and attention.
  expect(perToken.slice(2, 7).map(({ bindGroups }) => bindGroups)).toEqual(new Array(5).fill(perToken[2]!.bindGroups))
  expect(perToken[2]!.bindGroups).toBeLessThan(perToken[8]!.bindGroups / 2)
  expect(cache.length).toBe(tinyPrompt.length + 11)
})

test('a cancelled step leaves the cache as it was', async () => {
  await using model = await load(80)
  using cache = await model.createCache({ capacity: 80 })
  const all = await write(model, tinyPrompt, { maxNewTokens: 7 })
  const controller = new AbortController()
  const first: number[] = []
  const reading = (async () => {
    for await (const { token } of model.generate(tinyPrompt, { cache, maxNewTokens: 7, signal: controller.signal })) {
      first.push(token)
      if (first.length === 4) setTimeout(() => controller.abort(new Error('enough')), 0)
    }
  })()
  await expect(reading).rejects.toThrow('enough')
  expect(cache.length).toBe(tinyPrompt.length + first.length - 1)
  const rest = await write(model, [], { cache, maxNewTokens: 7 - first.length })
  expect([...first, ...rest.map(({ token }) => token)]).toEqual(all.map(({ token }) => token))
})
