import { describe, expect, test } from 'vitest'
import { type StepCacheOptions, stepCache, timestepEmbedding } from './index.js'

const refusal = (code: string, where: string) => expect.objectContaining({ code, where })

/** Runs a video whose signals are these numbers; the model's output is its step. Says at which steps it ran. */
async function evaluatedSteps(
  signals: readonly number[],
  options: StepCacheOptions<Float32Array>,
  cache = stepCache(options),
): Promise<number[]> {
  const evaluated: number[] = []
  let latest = -1
  for (const [step, signal] of signals.entries()) {
    const { output, reused } = await cache.run({ step, steps: signals.length, signal: [signal] }, async () => {
      evaluated.push(step)
      latest = step
      return Float32Array.of(step)
    })
    expect([...output]).toEqual([latest])
    expect(reused).toBe(latest !== step)
  }
  return evaluated
}

const constant = new Array<number>(8).fill(1)

describe('a step cache', () => {
  test('evaluates the first and the last steps, whatever the signal', async () => {
    expect(await evaluatedSteps(constant, {})).toEqual([0, 7])
    expect(await evaluatedSteps(constant, { firstSteps: 3, lastSteps: 2 })).toEqual([0, 1, 2, 6, 7])
    expect(await evaluatedSteps([1], {})).toEqual([0])
  })

  test('never reuses at a threshold of 0, and always in between at a large one', async () => {
    expect(await evaluatedSteps(constant, { threshold: 0 })).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
    expect(await evaluatedSteps([1, 3, 9, 2, 7], { threshold: 1e9 })).toEqual([0, 4])
  })

  test('adds up relative changes from step to step, reused or not, and begins anew with each evaluation', async () => {
    // Changes of 1/4 of the step before: sums 1/4, 1/2, then 3/4 is not below, and so on.
    const signals = Array.from({ length: 9 }, (_, i) => 1.25 ** i)
    expect(await evaluatedSteps(signals, { threshold: 0.7 })).toEqual([0, 3, 6, 8])
    // There and back is two changes, 1/4 and 1/5, though nothing is left of them.
    expect(await evaluatedSteps([1, 1.25, 1, 1.25, 1, 1.25, 1], { threshold: 0.6 })).toEqual([0, 3, 6])
    // Not below: a sum that equals the threshold is evaluated.
    expect(await evaluatedSteps([1, 1.5, 1.5, 1.5], { threshold: 0.5 })).toEqual([0, 1, 3])
    // From −1 to 1 is a change of 2, and one from zeros is endless.
    expect(await evaluatedSteps([-1, 1, 1, 1], { threshold: 1.9 })).toEqual([0, 1, 3])
    expect(await evaluatedSteps([0, 0, 1, 1], { threshold: 1e9 })).toEqual([0, 2, 3])
  })

  test('rescales changes by a polynomial, highest power first', async () => {
    const signals = [1, 2, 4, 8, 16, 32, 64] // changes of 1
    expect(await evaluatedSteps(signals, { threshold: 2.5, coefficients: [2, -3, 2] })).toEqual([0, 3, 6]) // 1 each
    // Changes of ½: 4 · ¼ − 1 · ½ = ½; lowest power first would be ¼ · (−1) · … + 4.
    const halves = Array.from({ length: 7 }, (_, i) => 1.5 ** i)
    expect(await evaluatedSteps(halves, { threshold: 0.9, coefficients: [4, -1, 0] })).toEqual([0, 2, 4, 6])
  })

  test('keeps branches apart, and forgets with reset', async () => {
    const cache = stepCache<Float32Array>()
    const at = (branch: 'conditional' | 'unconditional', value: number) =>
      cache.run({ step: 3, steps: 9, branch, signal: [1] }, async () => Float32Array.of(value))
    expect((await at('conditional', 1)).output[0]).toBe(1)
    expect((await at('unconditional', 2)).output[0]).toBe(2)
    const next = (branch: 'conditional' | 'unconditional') =>
      cache.run({ step: 4, steps: 9, branch, signal: [1] }, () => Promise.reject(new Error('evaluated')))
    expect(await next('conditional')).toEqual({ output: Float32Array.of(1), reused: true })
    expect(await next('unconditional')).toEqual({ output: Float32Array.of(2), reused: true })
    expect(cache.counts).toEqual({ evaluated: 2, reused: 2 })
    cache.reset()
    expect(cache.counts).toEqual({ evaluated: 0, reused: 0 })
    await expect(next('conditional')).rejects.toThrow('evaluated')
  })

  test('an evaluation that fails may be tried again, and changes nothing', async () => {
    const cache = stepCache<Float32Array>({ threshold: 0.5 })
    const call = (step: number, signal: number, evaluate: () => Promise<Float32Array>) =>
      cache.run({ step, steps: 9, signal: [signal] }, evaluate)
    await call(0, 1, async () => Float32Array.of(7))
    await expect(call(1, 2, () => Promise.reject(new Error('lost')))).rejects.toThrow('lost')
    expect((await call(1, 1.25, () => Promise.reject(new Error('evaluated')))).output[0]).toBe(7)
    expect(cache.counts).toEqual({ evaluated: 1, reused: 1 })
  })

  test('hands out arrays of its own', async () => {
    const cache = stepCache<Float32Array>()
    const call = (step: number) => cache.run({ step, steps: 9, signal: [1] }, async () => Float32Array.of(5))
    for (let step = 0; step < 4; step++) {
      const { output } = await call(step)
      expect(output[0]).toBe(5)
      output[0] = -1
    }
  })

  test('adds a residual to the input of the step that reuses it', async () => {
    const cache = stepCache({ reuse: 'residual' })
    const call = (step: number, input: number[]) =>
      cache.run({ step, steps: 9, signal: [1], input: Float32Array.from(input) }, async () => Float32Array.of(4, 8))
    expect([...(await call(0, [1, 2])).output]).toEqual([4, 8])
    expect([...(await call(1, [10, 20])).output]).toEqual([13, 26])
    expect([...(await call(2, [0, 0])).output]).toEqual([3, 6])
  })

  test('keeps other outputs as they are, and releases each once', async () => {
    const released: number[] = []
    const cache = stepCache<{ id: number }>({ threshold: 0.5, release: ({ id }) => released.push(id) })
    const call = (step: number, signal: number) =>
      cache.run({ step, steps: 9, signal: [signal] }, async () => ({ id: step }))
    const first = (await call(0, 1)).output
    expect((await call(1, 1)).output).toBe(first)
    expect(released).toEqual([])
    await call(2, 2)
    expect(released).toEqual([0])
    cache.reset()
    cache.reset()
    expect(released).toEqual([0, 2])
  })

  test.each<[StepCacheOptions<Float32Array>, string]>([
    [{ threshold: -1 }, 'threshold'],
    [{ threshold: Number.NaN }, 'threshold'],
    [{ threshold: Number.POSITIVE_INFINITY }, 'threshold'],
    [{ coefficients: [] }, 'coefficients'],
    [{ coefficients: [1, Number.NaN] }, 'coefficients'],
    [{ firstSteps: 0 }, 'firstSteps'],
    [{ lastSteps: 1.5 }, 'lastSteps'],
    [{ reuse: 'input' as never }, 'reuse'],
  ])('refuses the options %j', (options, where) => {
    expect(() => stepCache(options)).toThrow(refusal('INVALID_OPTION', where))
  })

  test('refuses steps out of order, and signals and inputs that do not fit, before the model runs', async () => {
    const cache = stepCache({ reuse: 'residual' })
    const [signal, input] = [[1, 2], Float32Array.of(1)]
    const good = { step: 2, steps: 9, signal, input }
    const unreachable = () => Promise.reject(new Error('evaluated'))
    for (const [wrong, where] of [
      [{ step: -1 }, 'step'],
      [{ step: 9 }, 'step'],
      [{ step: 0.5 }, 'step'],
      [{ signal: [] }, 'signal'],
      [{ signal: [Number.NaN, 1] }, 'signal'],
      [{ input: undefined }, 'input'],
    ] as const) {
      await expect(cache.run({ ...good, ...wrong } as never, unreachable)).rejects.toEqual(
        refusal('INVALID_ARGUMENT', where),
      )
    }
    await cache.run(good, async () => Float32Array.of(2))
    for (const [wrong, where] of [
      [{ step: 2 }, 'step'],
      [{ step: 1 }, 'step'],
      [{ step: 3, steps: 10 }, 'step'],
      [{ step: 3, signal: [1] }, 'signal'],
      [{ step: 3, input: Float32Array.of(1, 2) }, 'input'],
    ] as const) {
      await expect(cache.run({ ...good, ...wrong }, unreachable)).rejects.toEqual(refusal('INVALID_ARGUMENT', where))
    }
    const tensors = stepCache<{ id: number }>({ reuse: 'residual' })
    await expect(tensors.run(good, async () => ({ id: 1 }))).rejects.toEqual(refusal('INVALID_ARGUMENT', 'reuse'))
  })
})

test('the timestep embedding is cosines, then sines, of falling frequencies', () => {
  const embedding = timestepEmbedding(3, 4)
  const expected = [Math.cos(3), Math.cos(0.03), Math.sin(3), Math.sin(0.03)]
  for (const [i, value] of expected.entries()) expect(embedding[i]).toBeCloseTo(value, 6) // f32
  expect(() => timestepEmbedding(3, 5)).toThrow(refusal('INVALID_ARGUMENT', 'size'))
})
