import {
  type AttentionContext,
  type ConfiguredMethod,
  defineMethod,
  relativeError,
  StateEntries,
} from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { trackBuffers } from '@sparse-attention/testing'
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createHarness, type Harness, TOLERANCE } from '../../test/harness.js'
import { tinyCode, tinyFlowModel } from '../../test/tiny-flow.js'
import type { AttentionModel, SampleOptions } from '../index.js'
import { gaussianNoise } from './noise.js'
import { flowTimes } from './schedule.js'

const bytes = tinyFlowModel()
const shape = [1, 6, 4]
const grid = [1, 2, 3]
let harness: Harness
let model: AttentionModel
let asked: Pick<SampleOptions, 'shape' | 'condition' | 'nullCondition' | 'inputs' | 'grid'>
beforeAll(async () => {
  harness = await createHarness()
  model = await harness.load(bytes, { attention: () => remembering })
  const inputs = { latents: 'latents', time: 'timestep' }
  asked = { shape, grid, inputs, condition: tinyCode(harness, 1), nullCondition: tinyCode(harness, 2) }
  return () => model.dispose()
})

/** Exact attention that notes what it is told, and how often the entry of a call was used before. */
const calls: (AttentionContext & { readonly before: number; readonly state: unknown })[] = []
beforeEach(() => {
  calls.length = 0
})
const remembering: ConfiguredMethod = defineMethod({
  ...dense.definition,
  id: 'remembering',
  options: {},
  neutral: {},
  capabilities: { ...dense.definition.capabilities, state: true, grid: 'required' },
  scaled: () => ({}),
  async create(runtime, config) {
    const program = await dense.definition.create(runtime, config, dense().options)
    return {
      attend: (frame, plan) => program.attend(frame, plan),
      dispose: () => program.dispose(),
      createState: () => new StateEntries<{ before: number }>(runtime),
      plan(frame) {
        const state = frame.state as StateEntries<{ before: number }>
        const { entry } = state.entry(frame, (allocate) => {
          allocate(64)
          return { before: 0 }
        })
        calls.push({ ...frame.context, before: entry.before++, state })
        return program.plan(frame)
      },
    }
  },
})()

describe('flowTimes', () => {
  test('go from noise to data, evenly or shifted towards noise', () => {
    expect(flowTimes(4, 1)).toEqual([1, 0.75, 0.5, 0.25, 0])
    expect(flowTimes(2, 3)).toEqual([1, 0.75, 0])
  })
})

test('noise is normal, and its seed tells it', () => {
  const noise = gaussianNoise(7, 20_001)
  const moment = (power: number) => noise.reduce((sum, value) => sum + value ** power, 0) / noise.length
  // Of 20001 values the moments stray by 1/√20001 = 0.007, 0.01 and 0.07: five times that.
  expect(Math.abs(moment(1))).toBeLessThan(0.035)
  expect(Math.abs(moment(2) - 1)).toBeLessThan(0.05)
  expect(Math.abs(moment(4) - 3)).toBeLessThan(0.35)
  expect(gaussianNoise(7, 3)).toEqual(noise.slice(0, 3))
  expect(gaussianNoise(8, 3)).not.toEqual(noise.slice(0, 3))
})

describe('sample', () => {
  test('integrates the guided velocity of the model', async () => {
    const noise = gaussianNoise(5, 24)
    // The same in plain loops, on the whole model in onnxruntime-web: 4 steps, shift 3, guidance 2.5.
    const expected = Array.from(noise)
    const times = [0, 1, 2, 3, 4].map((i) => ((u) => (3 * u) / (1 + 2 * u))(1 - i / 4))
    for (let i = 0; i < 4; i++) {
      const velocity = async (code: number) => {
        const latents = harness.tensor('float32', shape, expected)
        const timestep = harness.tensor('float32', [1], [times[i]!])
        const outputs = await harness.reference(bytes, { latents, timestep, ...tinyCode(harness, code) })
        return outputs.velocity!.data as Float32Array
      }
      const [asked, nothing] = [await velocity(1), await velocity(2)]
      expected.forEach((x, at) => {
        expected[at] = x + (times[i + 1]! - times[i]!) * (nothing[at]! + 2.5 * (asked[at]! - nothing[at]!))
      })
    }
    const seen: number[][] = []
    const options = { ...asked, steps: 4, shift: 3, guidance: 2.5, seed: 5 }
    const video = await model.sample({
      ...options,
      onStep: ({ step, steps, time, latents }) => void seen.push([step, steps, time, latents[0]!]),
    })
    expect(relativeError(video, Float32Array.from(expected))).toBeLessThan(TOLERANCE)
    expect(seen.map(([step, steps, time]) => [step, steps, time])).toEqual(times.slice(1).map((t, i) => [i, 4, t]))
    expect(seen[3]![3]).toBe(video[0])
    expect(seen[2]![3]).not.toBe(video[0])
    expect(await model.sample({ ...options, seed: 6, noise })).toEqual(video)
  })

  test('tells each attention its layer, step, branch and grid', async () => {
    await model.sample({ ...asked, steps: 2, guidance: 2 })
    const told = calls.map(({ layer, step, steps, branch, grid }) => [layer, step, steps, branch, grid])
    expect(told).toEqual(
      [0, 1].flatMap((step) =>
        ['conditional', 'unconditional'].flatMap((branch) => [0, 1].map((layer) => [layer, step, 2, branch, grid])),
      ),
    )
    calls.length = 0
    await model.sample({ ...asked, steps: 1 })
    expect(calls.map(({ branch }) => branch)).toEqual(['conditional', 'conditional'])
  })

  test('remembers from step to step, each branch and layer for itself, and nothing of another video', async () => {
    const options = { ...asked, steps: 3, guidance: 2 }
    const alone = [await model.sample({ ...options, seed: 1 }), await model.sample({ ...options, seed: 2 })]
    using state = model.createState()
    expect(state.sizeBytes).toBe(0)
    calls.length = 0
    // One after the other in one state, and both at once.
    expect(await model.sample({ ...options, seed: 1, state })).toEqual(alone[0])
    expect(state.sizeBytes).toBe(2 * 2 * 64)
    expect(await model.sample({ ...options, seed: 2, state })).toEqual(alone[1])
    const together = await Promise.all([1, 2].map((seed) => model.sample({ ...options, seed })))
    expect(together).toEqual(alone)
    expect(state.sizeBytes).toBe(2 * 2 * 64)
    expect(calls).toHaveLength(4 * 3 * 4)
    // Each call finds the entry as the step before left it.
    for (const { before, step } of calls) expect(before).toBe(step)
    expect(new Set(calls.slice(24).map(({ state }) => state)).size).toBe(2 * 2)
  })

  test('asks before each evaluation, which may be left out', async () => {
    const asks: unknown[] = []
    const kept = new Map<string, Float32Array>()
    const reusing = await model.sample({
      ...asked,
      steps: 3,
      guidance: 2,
      onEvaluation: async ({ step, branch, time, latents }, evaluate) => {
        asks.push([step, branch, time, latents.length])
        if (step < 2) kept.set(branch, await evaluate())
        return kept.get(branch)!
      },
    })
    const branches = ['conditional', 'unconditional']
    expect(asks).toEqual([0, 1, 2].flatMap((i) => branches.map((branch) => [i, branch, flowTimes(3, 1)[i], 24])))
    expect(calls.map(({ step }) => step)).toEqual([0, 0, 0, 0, 1, 1, 1, 1])
    expect(reusing).not.toEqual(await model.sample({ ...asked, steps: 3, guidance: 2 }))
  })

  test('that is cancelled, or fails, frees what it made', async () => {
    const controller = new AbortController()
    const reason = new Error('too slow')
    await model.sample({ ...asked, steps: 1 })
    await harness.runtime.idle()
    using buffers = trackBuffers(harness.runtime.device)
    const onStep = ({ step }: { step: number }) => {
      if (step === 1) controller.abort(reason)
    }
    await expect(model.sample({ ...asked, steps: 9, signal: controller.signal, onStep })).rejects.toBe(reason)
    expect(calls.at(-1)!.step).toBe(1)
    const failing = () => Promise.reject(reason)
    await expect(model.sample({ ...asked, onAttention: failing })).rejects.toBe(reason)
    expect(buffers.live).toBe(0)
  })
})

test.each<[string, Partial<SampleOptions>, string, string]>([
  ['no size', { shape: [1, 0, 4] }, 'INVALID_OPTION', 'shape'],
  ['no steps', { steps: 0 }, 'INVALID_OPTION', 'steps'],
  ['a shift of 0', { shift: 0 }, 'INVALID_OPTION', 'shift'],
  ['a guidance that is none', { guidance: Number.NaN }, 'INVALID_OPTION', 'guidance'],
  ['a seed that is none', { seed: 0.5 }, 'INVALID_OPTION', 'seed'],
  ['noise of another size', { noise: new Float32Array(5) }, 'INVALID_SHAPE', 'noise'],
  ['an output that is not there', { output: 'noise' }, 'INVALID_ARGUMENT', 'outputs'],
  ['inputs that are not there', { inputs: { latents: 'latents', time: 'when' } }, 'INVALID_ARGUMENT', 'when'],
])('sample refuses %s', async (_, options, code, where) => {
  await expect(model.sample({ ...asked, ...options })).rejects.toMatchObject({ code, where })
  expect(calls).toHaveLength(0)
})

test('sample refuses guidance without what it guides away from, and the states of others', async () => {
  const { nullCondition: _, ...rest } = asked
  const missing = { code: 'INVALID_OPTION', where: 'nullCondition' }
  await expect(model.sample({ ...rest, guidance: 2 })).rejects.toMatchObject(missing)
  await using other = await harness.load(bytes)
  using state = other.createState()
  await expect(model.sample({ ...asked, state })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', where: 'state' })
  const freed = model.createState()
  freed.dispose()
  await expect(model.sample({ ...asked, state: freed })).rejects.toMatchObject({ code: 'DISPOSED', where: 'state' })
  // A method that remembers nothing is given no state.
  using own = other.createState()
  await other.sample({ ...asked, steps: 1, state: own })
  expect(own.sizeBytes).toBe(0)
})
