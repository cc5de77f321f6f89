import { createRuntime, type HostBlockPlan, type HostPermutedPlan, type Runtime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { bandReach, bandShare, profileReach } from './band.js'
import { sparseVideogen } from './method.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const random = createRandom(61)
const [frames, height, width, headDim] = [10, 6, 11, 16]
const frameLength = height * width
const tokens = frames * frameLength
const config = { queryHeads: 2, headDim, dtype: 'f32', causal: false } as const

/** Head 0 wears codes of frames, head 1 of places. */
function planted(length: number): Float32Array {
  const codes = Array.from({ length: 70 * headDim }, random.gaussian)
  return Float32Array.from({ length: 2 * length * headDim }, (_, i) => {
    const [head, token, d] = [Math.floor(i / length / headDim), Math.floor(i / headDim) % length, i % headDim]
    const code = head === 0 ? Math.floor(token / frameLength) : token % frameLength
    return 3 * codes[Math.min(code, 69) * headDim + d]! + 0.3 * random.gaussian()
  })
}

async function call(length: number, context: { step?: number; layer?: number; grid?: number[] } = {}, options = {}) {
  using attention = await runtime.use(sparseVideogen({ blockSize: 64, profileFrames: 1, ...options }), config)
  const shape = [1, 2, length, headDim]
  const x = planted(length)
  using q = runtime.tensor('f32', shape, x)
  using k = runtime.tensor('f32', shape, x)
  using v = runtime.tensor('f32', shape, Float32Array.from({ length: x.length }, random.gaussian))
  const { out, lse, plan } = await attention.run({ q, k, v, context: { grid: [frames, height, width], ...context } })
  const host = (await plan.read()) as HostPermutedPlan & HostBlockPlan
  const answer = { host, path: plan.path, stats: await plan.stats(), mask: await plan.toMask() }
  out.buffer.destroy()
  lse.buffer.destroy()
  return answer
}

describe('sparse-videogen', () => {
  test('a planted spatial head stays as it is, a temporal one is brought into the order of places', async () => {
    const { host, stats, mask } = await call(tokens, {}, { sinkFrames: 0 })
    const { queries, keys } = host.permutation
    expect(queries).toEqual(keys)
    for (let i = 0; i < tokens; i++) {
      expect(queries[i]).toBe(i)
      expect(queries[tokens + i]).toBe((i % frames) * frameLength + Math.floor(i / frames))
    }
    // Eleven blocks a side: a band of 0.3 reaches one block, which are 31 of 121 blocks.
    expect(stats.density).toBeGreaterThan(0.2)
    expect(stats.density).toBeLessThan(0.35)
    // The temporal head sees its own place in every frame.
    const place = 17
    for (let f = 0; f < frames; f++) expect(mask[(tokens + place) * tokens + f * frameLength + place]).toBe(1)
  })

  test('text sees everything and is seen by all, and the first frame is kept', async () => {
    const length = tokens + 9
    const { mask, host } = await call(length)
    expect([...host.permutation.queries.slice(tokens, length)]).toEqual(Array.from({ length: 9 }, (_, i) => tokens + i))
    for (const head of [0, 1]) {
      for (let i = 0; i < length; i++) {
        expect(mask[(head * length + i) * length + tokens + 4]).toBe(1)
        expect(mask[(head * length + tokens + 4) * length + i]).toBe(1)
      }
    }
    for (let row = 0; row < tokens; row++) expect(mask[row * length + frameLength - 1]).toBe(1)
  })

  test('first steps and first layers are dense; a grid is needed', async () => {
    const path = async (step: number, layer: number) =>
      (await call(tokens, { step, layer }, { denseSteps: 2, denseLayers: 1 })).path
    expect([await path(1, 5), await path(2, 0), await path(2, 1)]).toEqual(['dense', 'dense', 'sparse'])
    using attention = await runtime.use(sparseVideogen(), config)
    using x = runtime.tensor('f32', [1, 2, 8, headDim])
    const run = (context: { grid?: number[] }) => attention.run({ q: x, k: x, v: x, context })
    await expect(run({})).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', where: 'context.grid' })
    await expect(run({ grid: [2, 4] })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', where: 'context.grid' })
    await expect(run({ grid: [2, 4, 2] })).rejects.toMatchObject({ code: 'INVALID_SHAPE', where: 'context.grid' })
  })
})

test.each([0.1, 0.25, 0.3, 0.6, 0.9])('a band of %f keeps about that share of the blocks', (share) => {
  for (const [length, block] of [
    [32760, 128],
    [118800, 128],
    [8000, 64],
  ] as const) {
    const reach = bandReach(length, share, block)
    const blocks = Math.ceil(length / block)
    const kept = Array.from({ length: blocks }, (_, a) => Math.min(blocks - 1, a + reach) - Math.max(0, a - reach) + 1)
    // To the nearest block on either side.
    expect(Math.abs(kept.reduce((sum, n) => sum + n, 0) / blocks ** 2 - share)).toBeLessThan(1.1 / blocks)
  }
})

test('bands: everything, nothing but the diagonal, and what text takes', () => {
  expect(bandReach(1000, 1, 64)).toBeGreaterThanOrEqual(15)
  expect([bandReach(1000, 0, 64), bandReach(1000, -0.1, 64)]).toEqual([0, 0])
  expect(bandShare(0.3, 1000, 50)).toBeCloseTo(0.2)
  // Of Wan 2.1 at 480p a frame has 1560 tokens.
  expect([profileReach(1560, 2, 128), profileReach(20, 1, 64)]).toEqual([24, 1])
})
