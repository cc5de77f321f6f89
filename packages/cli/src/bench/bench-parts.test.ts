import {
  allowedError,
  callsPerSample,
  errorOfRows,
  GpuTimer,
  inputKinds,
  makeInput,
  measureCeilings,
  summary,
  uploadInput,
} from '@sparse-attention/compare'
import { createRuntime, tensorView } from '@sparse-attention/core/node'
import { dense } from '@sparse-attention/kernels'
import { expectAttentionClose } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const shape = { batch: 2, queryHeads: 4, kvHeads: 2, queryLength: 70, keyLength: 70, headDim: 16 }
const call = { causal: true, scale: 0.25, seed: 3 }
const { signal } = new AbortController()

let runtime: Awaited<ReturnType<typeof createRuntime>>
beforeAll(async () => {
  runtime = await createRuntime({ onNotice: () => {} })
})
afterAll(() => runtime.dispose())

describe('inputs', () => {
  it.each(inputKinds)('%s: the same seed gives the same numbers, another one others', (kind) => {
    const made = makeInput(kind, shape, 'f32', 1)
    expect(makeInput(kind, shape, 'f32', 1)).toEqual(made)
    expect(makeInput(kind, shape, 'f32', 2).q).not.toEqual(made.q)
    const mean = made.v.reduce((sum, x) => sum + x, 0) / made.v.length
    const variance = made.v.reduce((sum, x) => sum + x * x, 0) / made.v.length
    expect(Math.abs(mean)).toBeLessThan(0.1) // 4480 numbers: a standard error of 0.015
    expect(Math.abs(variance - 1)).toBeLessThan(0.15) // of 0.021
  })

  it('f16 inputs are halves already', () => {
    const { q } = makeInput('stripes', shape, 'f16', 1)
    using tensor = runtime.tensor('f16', [q.length], q)
    expect(tensor.shape).toEqual([q.length])
    return expect(runtime.read(tensor)).resolves.toEqual(q)
  })

  it('stripes: one key in 128 of each head draws most of the attention', () => {
    const long = { ...shape, batch: 1, queryLength: 512, keyLength: 512, headDim: 64 }
    const { q, k } = makeInput('stripes', long, 'f32', 1)
    for (const head of [0, 3]) {
      const kvHead = head >> 1
      const logits = Array.from({ length: 512 }, (_, key) => {
        let sum = 0
        for (let d = 0; d < 64; d++) sum += q[(200 * 4 + head) * 64 + d]! * k[(key * 2 + kvHead) * 64 + d]!
        return sum / 8
      })
      const weights = logits.map(Math.exp).sort((a, b) => b - a)
      const total = weights.reduce((sum, w) => sum + w, 0)
      expect(weights.slice(0, 4).reduce((sum, w) => sum + w, 0) / total).toBeGreaterThan(0.5)
    }
  })
})

describe('the check of rows', () => {
  const input = makeInput('stripes', shape, 'f32', 5)
  const config = { queryHeads: 4, kvHeads: 2, headDim: 16, dtype: 'f32', causal: true, scale: 0.25 } as const

  async function computed(): Promise<{ out: Float32Array; lse: Float32Array }> {
    using attention = await runtime.use(dense(), config)
    using tensors = uploadInput(runtime, input)
    const { q, k, v, out, lse } = tensors
    await attention.run({ q, k, v, out, lse })
    return { out: await runtime.read(out), lse: await runtime.read(lse) }
  }

  it('passes attention that is right, to the last of its rows', async () => {
    const answer = await computed()
    expect(errorOfRows(input, call, answer)).toBeLessThan(1e-6) // float32 over 70 keys
    // And it is right: the same buffers in the suite's order of axes, under the suite's rule.
    const swap = (values: Float32Array, heads: number) => {
      const swapped = new Float64Array(values.length)
      for (let i = 0; i < values.length; i++) {
        const [d, head, row, b] = [
          i % 16,
          (i >> 4) % heads,
          Math.floor(i / 16 / heads) % 70,
          Math.floor(i / 16 / heads / 70),
        ]
        swapped[((b * heads + head) * 70 + row) * 16 + d] = values[i]!
      }
      return swapped
    }
    const { q, k, v } = input
    const tensors = { q: swap(q, 4), k: swap(k, 2), v: swap(v, 2) }
    const mask = Uint8Array.from({ length: 2 * 4 * 70 * 70 }, (_, i) => Number(i % 70 <= Math.floor(i / 70) % 70))
    expectAttentionClose(answer, { ...shape, ...tensors, scale: 0.25, mask, dtype: 'f32', name: 'bench' })
  })

  it.each<[string, (answer: { out: Float32Array; lse: Float32Array }) => void]>([
    ['its last row is another', ({ out }) => out.copyWithin(out.length - 16, 0, 16)],
    ['the lse is in base 2', ({ lse }) => lse.set(lse.map((value) => value * Math.LOG2E))],
    ['it holds NaN', ({ out }) => out.fill(Number.NaN, 0, 1)],
  ])('finds that %s', async (_, spoil) => {
    const answer = await computed()
    spoil(answer)
    expect(errorOfRows(input, call, answer) <= allowedError.f32).toBe(false)
  })

  it('holds an answer against the selection that it was computed over', async () => {
    const answer = await computed()
    const wordsPerRow = 1
    const plan = {
      ...{ kind: 'block' as const, batch: 2, queryHeads: 4, queryLength: 70, keyLength: 70, causal: true },
      ...{ blockQ: 64, blockK: 64, bitmap: new Uint32Array(2 * 4 * 2 * wordsPerRow).fill(3) },
    }
    expect(errorOfRows(input, call, { ...answer, plan })).toBeLessThan(1e-6)
    plan.bitmap.fill(1) // without the second block of keys
    expect(errorOfRows(input, call, { ...answer, plan })).toBeGreaterThan(allowedError.f32)
  })
})

describe('samples', () => {
  it('are of so many calls that they take ten milliseconds', () => {
    expect([0, 0.04, 1, 3, 10, 500].map(callsPerSample)).toEqual([256, 250, 10, 4, 1, 1])
  })

  it('give median, p10 and p90', () => {
    expect(summary([4, 1, 3, 2, 11, 7, 8, 6, 9, 10, 5])).toEqual({ medianMs: 6, p10Ms: 2, p90Ms: 10 })
    expect(summary([5])).toEqual({ medianMs: 5, p10Ms: 5, p90Ms: 5 })
    expect(summary([1, 2])).toEqual({ medianMs: 1.5, p10Ms: 1.1, p90Ms: 1.9 })
  })
})

describe('the device', () => {
  it('has ceilings, also without timestamps', async () => {
    for (const timer of [undefined, await GpuTimer.for(runtime)]) {
      const { bytesPerSecond, f32OperationsPerSecond } = await measureCeilings(runtime, timer, signal)
      // Between a slow core and a fast GPU.
      for (const rate of [bytesPerSecond, f32OperationsPerSecond]) {
        expect(rate).toBeGreaterThan(1e6)
        expect(rate).toBeLessThan(1e16)
      }
      timer?.[Symbol.dispose]()
    }
  })

  it('stops between samples when it is told to', async () => {
    const controller = new AbortController()
    controller.abort(new Error('enough'))
    await expect(measureCeilings(runtime, undefined, controller.signal)).rejects.toThrow('enough')
  })

  it('is busy before what is timed, and that is not timed', async () => {
    using timer = await GpuTimer.for(runtime, { runsUp: true })
    if (!timer) return expect(runtime.device.features.has('timestamp-query')).toBe(false)
    const labels: string[] = []
    const { createCommandEncoder } = runtime.device
    runtime.device.createCommandEncoder = (descriptor) => {
      labels.push(descriptor?.label ?? '')
      return createCommandEncoder.call(runtime.device, descriptor)
    }
    try {
      const start = performance.now()
      expect(await timer.warmUp(signal)).toBeGreaterThan(0)
      labels.length = 0
      const ms = await timer.time((nextEncoder) => nextEncoder().beginComputePass().end())
      expect(labels.slice(0, 2)).toEqual(['run-up', 'timed'])
      expect(ms).toBeGreaterThanOrEqual(0)
      expect(ms).toBeLessThan(performance.now() - start)
      await expect(timer.warmUp(AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough')
    } finally {
      Reflect.deleteProperty(runtime.device, 'createCommandEncoder')
    }
  })

  it('times all encoders together', async () => {
    using timer = await GpuTimer.for(runtime)
    if (!timer) return expect(runtime.device.features.has('timestamp-query')).toBe(false)
    using source = runtime.tensor('f32', [2 ** 16])
    const view = tensorView(source.buffer, 'f32', [2 ** 16])
    using target = runtime.tensor('f32', [2 ** 16])
    let encoders = 0
    const ms = await timer.time((nextEncoder) => {
      for (let i = 0; i < 3; i++) {
        const encoder = nextEncoder()
        encoders++
        encoder.beginComputePass().end()
        encoder.copyBufferToBuffer(view.buffer, 0, target.buffer, 0, 2 ** 18)
      }
    })
    expect(encoders).toBe(3)
    expect(ms).toBeGreaterThanOrEqual(0)
  })
})
