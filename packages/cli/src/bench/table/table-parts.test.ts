import { matrixProductSource } from '@sparse-attention/compare'
import { countPairs, forEachPlanRows, type HostPlan } from '@sparse-attention/core'
import { createRuntime, type Runtime } from '@sparse-attention/core/node'
import { dense } from '@sparse-attention/kernels'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { create, globals } from 'webgpu'
import { keysOfRow } from './check.js'
import { type CallTensors, makeCallTensors } from './device-input.js'
import { diagonalBlocks, planPairs, randomBlocks, randomColumns, skewedBlocks, verticalsAndSlashes } from './plans.js'
import { noPyTorch } from './pytorch.js'
import { NotMeasured } from './row.js'
import { timeSubmits } from './submit-times.js'
import { Workbench } from './workbench.js'

const { signal } = new AbortController()

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime({ onNotice: () => {} })
})
afterAll(() => runtime.dispose())

describe('handmade plans', () => {
  const size = { heads: 2, length: 1024, causal: false }
  const causal = { ...size, causal: true }
  const plans: [string, HostPlan, density: number][] = [
    ['random blocks', randomBlocks(size, 128, 0.5, 1), 0.5],
    ['blocks around the diagonal', diagonalBlocks(size, 64, 0.25, 1), 0.25],
    ['skewed blocks', skewedBlocks(size, 64, 0.125, 4, 1), 0.125 + 0.875 / 4],
    ['random columns', randomColumns(size, 128, 0.1, 1), 0.1],
    ['verticals and slashes', verticalsAndSlashes(causal, 0.25, 1), 0.25],
  ]
  it.each(plans)('%s: as dense as asked for, and the same by every way of counting', (_, plan, density) => {
    const pairs = planPairs(plan)
    expect(pairs).toEqual(countPairs(plan))
    // How much of a slash is visible depends on its distance, which is random.
    expect(Math.abs(pairs.kept / pairs.visible - density)).toBeLessThan(plan.causal ? 0.06 : 0.001)
    forEachPlanRows(plan, ({ head, firstRow, keys }) => {
      const own = keysOfRow(plan, head, firstRow)
      const count = (ranges: readonly number[]) => ranges.reduce((sum, key, i) => (i % 2 ? sum + key : sum - key), 0)
      expect(count(own)).toBe(count(keys)) // disjoint, too: overlaps would count twice
    })
  })
})

describe('inputs made on the device', () => {
  const shape = { batch: 1, queryHeads: 2, kvHeads: 2, queryLength: 256, keyLength: 256, headDim: 32 }
  const read = ({ q, k, v }: CallTensors) => Promise.all([q, k, v].map((tensor) => runtime.read(tensor)))

  it('are normal, the same for the same seed, and no two tensors hold the same rows', async () => {
    using tensors = await makeCallTensors(runtime, shape, 1)
    const [q, k, v] = (await read(tensors)) as [Float32Array, Float32Array, Float32Array]
    for (const values of [q, k, v]) {
      const mean = values.reduce((sum, x) => sum + x, 0) / values.length
      const variance = values.reduce((sum, x) => sum + x * x, 0) / values.length
      expect(Math.abs(mean)).toBeLessThan(0.04) // 16384 numbers: a standard error of 0.008
      expect(Math.abs(variance - 1)).toBeLessThan(0.06) // of 0.011
    }
    const rows = [q, k, v].flatMap((values) => Array.from({ length: 512 }, (_, i) => values.slice(32 * i, 32 * i + 32)))
    expect(new Set(rows.map(String)).size).toBe(3 * 512)
    using again = await makeCallTensors(runtime, shape, 1)
    expect(await read(again)).toEqual([q, k, v])
    using other = await makeCallTensors(runtime, shape, 2)
    expect((await read(other))[0]).not.toEqual(q)
  })

  it('have bands that every query attends to', async () => {
    using tensors = await makeCallTensors(runtime, shape, 1, { count: 2, width: 8 })
    const [q, k] = (await read(tensors)) as [Float32Array, Float32Array, Float32Array]
    const logit = (row: number, key: number) => {
      let sum = 0
      for (let d = 0; d < 32; d++) sum += q[row * 32 + d]! * k[key * 32 + d]!
      return sum / Math.sqrt(32)
    }
    for (const row of [0, 100, 255]) {
      const logits = Array.from({ length: 256 }, (_, key) => logit(row, key))
      // 10, but for 10/√32 times a normal number.
      for (const value of logits.slice(0, 8)) expect(Math.abs(value - 10)).toBeLessThan(6)
      const above = logits.filter((value) => value > 4.5).length
      expect(above).toBeGreaterThanOrEqual(8)
      expect(above).toBeLessThan(24)
    }
  })
})

describe('the workbench', () => {
  const ceilings = { bytesPerSecond: 1, f32OperationsPerSecond: 1, matrixOperationsPerSecond: null }
  const options = () => ({ runtime, ceilings, scale: 'tiny', seed: 1, samples: 1, signal, timer: undefined }) as const

  it('times nothing whose answer is wrong', async () => {
    using bench = new Workbench({ ...options(), pytorch: noPyTorch('left out') })
    const shape = bench.shape(8192, 64)
    using attention = await bench.use(dense(), shape, false)
    using tensors = await bench.tensors(shape)
    await expect(bench.checked(attention, tensors)).resolves.toMatchObject({ error: expect.any(Number) })
    const host = randomBlocks({ heads: shape.queryHeads, length: shape.keyLength, causal: false }, 64, 0.5, 1)
    const given = bench.upload(host, shape)
    using _ = given.uploaded
    await expect(bench.checked(attention, tensors, { given })).resolves.toMatchObject({ host })
    // It attends over the plan uploaded; the check is told of another one.
    const others = { ...host, bitmap: host.bitmap.map((word) => ~word) }
    const lie = bench.checked(attention, tensors, { given: { ...given, host: others } })
    await expect(lie).rejects.toThrow(NotMeasured)
  })
})

describe("somebody else's submits", () => {
  it('are timed while they call, and let alone afterwards', async () => {
    if (!runtime.device.features.has('timestamp-query')) return
    const { device } = runtime
    const before = Object.getPrototypeOf(device.queue).submit
    using source = runtime.tensor('f32', [2 ** 18])
    using target = runtime.tensor('f32', [2 ** 18])
    const copy = async () => {
      for (let i = 0; i < 2; i++) {
        const encoder = device.createCommandEncoder()
        encoder.copyBufferToBuffer(source.buffer, 0, target.buffer, 0, 2 ** 20)
        device.queue.submit([encoder.finish()])
      }
    }
    const times = await timeSubmits(runtime, copy, { samples: 2, signal })
    expect(times!.medianMs).toBeGreaterThan(0)
    expect(await timeSubmits(runtime, async () => {}, { samples: 1, signal })).toBeUndefined()
    expect(Object.getPrototypeOf(device.queue).submit).toBe(before)
  })
})

describe('the ceiling of matrices', () => {
  it('compiles', async () => {
    Object.assign(globalThis, globals)
    const gpu = create(['backend=null', 'enable-dawn-features=allow_unsafe_apis'])
    const adapter = await gpu.requestAdapter()
    const device = await adapter!.requestDevice({
      requiredFeatures: ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix'] as GPUFeatureName[],
    })
    keepAlive.push(gpu, adapter)
    const { code } = matrixProductSource({ syntax: 'template', M: 16, N: 16, K: 16 }, 64)
    device.pushErrorScope('validation')
    const module = device.createShaderModule({ code })
    expect((await module.getCompilationInfo()).messages.map(({ lineNum, message }) => [lineNum, message])).toEqual([])
    expect(await device.popErrorScope()).toBeNull()
  })
  // Collecting the instance would end the process.
  const keepAlive: unknown[] = []
})
