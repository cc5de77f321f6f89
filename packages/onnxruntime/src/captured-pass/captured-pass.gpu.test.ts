import { relativeError } from '@sparse-attention/core'
import { type AllocationFailure, failAllocation, trackBuffers } from '@sparse-attention/testing'
import { beforeAll, describe, expect, test, vi } from 'vitest'
import { countRuns, createHarness, type Harness } from '../../test/harness.js'
import { tinyCode, tinyFlowModel } from '../../test/tiny-flow.js'
import type { AttentionModel, LoadOptions, SampleOptions, SamplePass } from '../index.js'

// On software adapters, compiling onnxruntime-web's shaders takes most of the time.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 })

let harness: Harness
let asked: SampleOptions
beforeAll(async () => {
  harness = await createHarness('webgpu')
  asked = {
    shape: [1, 6, 4],
    inputs: { latents: 'latents', time: 'timestep' },
    condition: tinyCode(harness, 1),
    nullCondition: tinyCode(harness, 2),
    ...{ steps: 3, guidance: 2, seed: 3 },
  }
})

const load = (options: Partial<LoadOptions> = {}) =>
  harness.load(tinyFlowModel(), { captureSampling: true, attentionDtype: 'f16', ...options })

/** A video, and how each of its passes was run. */
async function sample(model: AttentionModel, options: Partial<SampleOptions> = {}) {
  const passes: SamplePass[] = []
  const video = await model.sample({ ...asked, ...options, onPass: (pass) => passes.push(pass) })
  return { video, captured: passes.map(({ captured }) => captured) }
}

test('recorded passes give the video of others, read back the velocity alone and bind nothing anew', async () => {
  await using model = await load()
  const plain = await sample(model, { capture: false })
  expect(plain.captured).toEqual(new Array(6).fill(false))
  expect(model.describe().capturedSampling).toEqual({ used: false, reason: 'nothing was sampled yet' })
  const first = await sample(model)
  expect(model.describe().capturedSampling).toEqual({ used: true, reason: 'passes are recorded' })
  expect(first.captured).toEqual(new Array(6).fill(true))
  // The same kernels on the same numbers; with fixed shapes onnxruntime-web may choose others, which add in another order.
  expect(relativeError(first.video, plain.video)).toBeLessThan(1e-6)

  const { device } = harness.runtime
  const { createBindGroup } = device
  let bindGroups = 0
  device.createBindGroup = (descriptor) => {
    bindGroups++
    return createBindGroup.call(device, descriptor)
  }
  try {
    using buffers = trackBuffers(device)
    using ort = countRuns(harness.ort)
    const again = await sample(model)
    expect(again.video).toEqual(first.video)
    // What onnxruntime-web dispatches is on tape: it is not called.
    expect([buffers.maps, bindGroups, ort.runs]).toEqual([6, 0, 0])
    expect(buffers.live).toBe(0)
  } finally {
    device.createBindGroup = createBindGroup
  }
})

test('the second branch is handed to the GPU before the first is there', async () => {
  await using model = await load()
  const first = await sample(model)
  const { mapAsync } = GPUBuffer.prototype
  const waiting: (() => void)[] = []
  // A read-back is there when the other one of its step was asked for too.
  GPUBuffer.prototype.mapAsync = async function (...args) {
    await mapAsync.apply(this, args)
    await new Promise<void>((resolve) => {
      waiting.push(resolve)
      if (waiting.length === 2) for (const each of waiting.splice(0)) each()
    })
    return undefined
  }
  try {
    expect((await sample(model)).video).toEqual(first.video)
  } finally {
    GPUBuffer.prototype.mapAsync = mapAsync
  }
})

test('videos made at the same time are what each is alone', async () => {
  await using model = await load()
  const seeds = [{ seed: 3 }, { seed: 4 }]
  const alone: unknown[] = []
  for (const each of seeds) alone.push((await sample(model, each)).video)
  const together = await Promise.all(seeds.map((each) => sample(model, each)))
  expect(together.map(({ video }) => video)).toEqual(alone)
  expect(together.flatMap(({ captured }) => captured)).toEqual(new Array(12).fill(true))
})

test('another shape is recorded anew, a look or a feed on the GPU runs as without, and an abort leaves it usable', async () => {
  await using model = await load()
  const { video } = await sample(model)
  const other = { shape: [1, 9, 4] }
  const wide = await sample(model, other)
  expect(wide.captured).toEqual(new Array(6).fill(true))
  expect(relativeError(wide.video, (await sample(model, { ...other, capture: false })).video)).toBeLessThan(1e-6) // as above

  const looked = await sample(model, { onAttention: () => {} })
  expect(looked.captured).toEqual(new Array(6).fill(false))
  const controller = new AbortController()
  const stopped = sample(model, { signal: controller.signal, onStep: () => controller.abort(new Error('enough')) })
  await expect(stopped).rejects.toThrow('enough')
  expect((await sample(model)).video).toEqual(video)
})

test('what cannot be recorded is run as without, and said', async () => {
  await using onCpu = await load({ provider: 'webgpu', captureSampling: false })
  expect(onCpu.describe().capturedSampling).toEqual({ used: false, reason: 'captureSampling is not set' })
  await using model = await load()
  const { Tensor } = harness.ort
  const onGpu = Tensor.fromGpuBuffer(harness.runtime.device.createBuffer({ size: 16, usage: 0x8c }) as never, {
    dataType: 'int64',
    dims: [1],
  })
  const { captured } = await sample(model, { condition: { code: onGpu }, guidance: 1, steps: 1 })
  expect(captured).toEqual([false])
  expect(model.describe().capturedSampling).toEqual({ used: false, reason: 'it is fed from the GPU' })
  onGpu.dispose()
})

// In Chromium it is the same wasm, and time is short.
describe.skipIf('document' in globalThis)('no memory while a pass is recorded or replayed', () => {
  const one = { steps: 1, guidance: 1 }

  test('for a buffer of ours: OUT_OF_MEMORY, nothing is kept, and the next is as ever', async () => {
    await using model = await load()
    const { device, scratch, uniforms } = harness.runtime
    const drain = () => {
      scratch.trim()
      uniforms.dispose()
    }
    using buffers = trackBuffers(device)
    // Of scratch that a caller's encoder may hold, `trim` lets go without destroying it; those without a label are not ours.
    const live = () => buffers.labels.filter((label) => label !== '' && label !== 'sparse-attention scratch').length
    /** With pools that are empty, so that all that is needed is asked for. */
    const lacking = async (at: number, how: AllocationFailure) => {
      drain()
      const { createBuffer } = device
      const failing = failAllocation(device, at, how)
      const counted = device.createBuffer
      device.createBuffer = (descriptor) => (descriptor.label ? counted : createBuffer).call(device, descriptor)
      const outcome = await sample(model, one).catch((error: unknown) => error)
      failing.dispose()
      drain()
      return { outcome, asked: failing.asked }
    }
    const recording = await lacking(0, 'reported')
    const { video, captured } = recording.outcome as Awaited<ReturnType<typeof sample>>
    expect(captured).toEqual([true])
    const replay = await lacking(0, 'reported')
    expect(replay.outcome).toEqual({ video, captured })
    expect(replay.asked).toBeLessThan(recording.asked / 2)
    const expectRefused = async (at: number, how: AllocationFailure) => {
      expect((await lacking(at, how)).outcome, `buffer ${at}, ${how}`).toMatchObject({ code: 'OUT_OF_MEMORY' })
    }
    const recorded = live()
    for (let at = 1; at <= replay.asked; at++) {
      await expectRefused(at, at % 2 === 0 ? 'thrown' : 'reported')
      expect(await sample(model, one)).toEqual({ video, captured })
    }
    drain()
    expect(live()).toBeLessThanOrEqual(recorded)

    // Recorded anew: two other shapes have taken the place of this one.
    for (const tokens of [7, 8]) await sample(model, { ...one, shape: [1, tokens, 4] })
    drain()
    const before = live()
    for (const at of [1, Math.ceil(recording.asked / 4)]) await expectRefused(at, at === 1 ? 'thrown' : 'reported')
    expect(live()).toBeLessThanOrEqual(before)
    expect(await sample(model, one)).toEqual({ video, captured })
  })

  test("for one of onnxruntime-web's: OUT_OF_MEMORY, and a model that is loaded anew works", async () => {
    {
      await using model = await load()
      using _ = failAllocation(harness.runtime.device, 27, 'reported')
      await expect(sample(model, one)).rejects.toMatchObject({ code: 'OUT_OF_MEMORY' })
    }
    await using model = await load()
    expect((await sample(model, one)).captured).toEqual([true])
  })
})
