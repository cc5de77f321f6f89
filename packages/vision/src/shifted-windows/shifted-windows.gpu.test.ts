import { type AttentionContext, createRuntime, type HostPermutedPlan, type Runtime } from '@sparse-attention/core'
import { makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { regionRoutes } from '../region-routes/routes.js'
import { type ShiftedWindowsOptions, shiftedWindows } from './method.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

/** The plan of a call over this grid. */
async function plan(options: Partial<ShiftedWindowsOptions>, context: AttentionContext & { grid: readonly number[] }) {
  const length = context.grid.reduce((product, size) => product * size, 1)
  const shape = { batch: 1, queryHeads: 1, kvHeads: 1, queryLength: length, keyLength: length, headDim: 8 }
  const { q, k, v } = makeInputs('gaussian', shape, 'f32', 1)
  using attention = await runtime.use(shiftedWindows(options), { ...shape, dtype: 'f32', causal: false })
  using qTensor = runtime.tensor('f32', [1, 1, length, 8], Float32Array.from(q))
  using kTensor = runtime.tensor('f32', [1, 1, length, 8], Float32Array.from(k))
  using vTensor = runtime.tensor('f32', [1, 1, length, 8], Float32Array.from(v))
  const { out, lse, plan } = await attention.run({ q: qTensor, k: kTensor, v: vTensor, context })
  const made = { path: plan.path, host: (await plan.read()) as HostPermutedPlan, mask: await plan.toMask() }
  const { density } = await plan.stats()
  out.buffer.destroy()
  lse.buffer.destroy()
  return { ...made, density }
}

const windows = async (options: Partial<ShiftedWindowsOptions>, context: AttentionContext & { grid: number[] }) =>
  regionRoutes((await plan(options, context)).host).regions

describe('shifted-windows', () => {
  test('layers of odd index are shifted, or none, or all', async () => {
    const grid = [14, 21]
    expect(await windows({}, { grid })).toBe(6)
    expect(await windows({}, { grid, layer: 1 })).toBe(12)
    expect(await windows({}, { grid, layer: 2 })).toBe(6)
    expect(await windows({ shift: 'none' }, { grid, layer: 1 })).toBe(6)
    expect(await windows({ shift: 'always' }, { grid, layer: 2 })).toBe(12)
  })

  test('a shifted window joins what an edge divided, and does not reach around the grid', async () => {
    const { mask } = await plan({ window: 4 }, { grid: [8, 8], layer: 1 })
    const sees = (from: readonly [number, number], to: readonly [number, number]) =>
      mask[(from[0] * 8 + from[1]) * 64 + to[0] * 8 + to[1]] === 1
    expect(sees([3, 3], [4, 4])).toBe(true) // on two sides of the edge of unshifted windows
    expect(sees([2, 2], [5, 5])).toBe(true) // corners of one window
    expect(sees([1, 1], [2, 2])).toBe(false)
    expect(sees([0, 0], [7, 7])).toBe(false) // rolled into one window, and masked there
    expect(sees([0, 0], [1, 1])).toBe(true)
  })

  test('no window is shifted that is as long as a side, and one that is as long as both is dense', async () => {
    expect(await windows({ shift: 'always' }, { grid: [7, 21] })).toBe(3)
    expect(await windows({ shift: 'always' }, { grid: [5, 21] })).toBe(3)
    expect((await plan({ shift: 'always' }, { grid: [7, 7] })).path).toBe('dense')
  })

  test('every window attends to itself, whole', async () => {
    const { host, density } = await plan({ window: 3 }, { grid: [7, 8] })
    expect([...regionRoutes(host).routes]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8])
    const sizes = [9, 9, 6, 9, 9, 6, 3, 3, 2]
    expect(density).toBeCloseTo(sizes.reduce((sum, n) => sum + n * n, 0) / 56 ** 2, 12) // exact counts, one division
  })

  test.each([64, 256])('scaled options keep 0.2 to 0.5 of %i tokens', async (length) => {
    const side = Math.sqrt(length)
    const { density } = await plan(shiftedWindows.definition.scaled(length), { grid: [side, side] })
    expect(density).toBeGreaterThan(0.2)
    expect(density).toBeLessThan(0.5)
  })

  test('more windows than a plan can hold are refused before any work', async () => {
    using attention = await runtime.use(shiftedWindows({ window: 2 }), {
      ...({ queryHeads: 1, headDim: 8, dtype: 'f32', causal: false } as const),
    })
    const length = 1024 * 512
    using q = runtime.tensor('f32', [1, 1, length, 8])
    using k = runtime.tensor('f32', [1, 1, length, 8])
    using v = runtime.tensor('f32', [1, 1, length, 8])
    const run = attention.run({ q, k, v, context: { grid: [1024, 512] } })
    await expect(run).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED', where: 'context.grid' })
  })
})
