import { createRuntime, type Runtime, relativeError, type Tensor } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { decode } from './decode.js'
import { attendToPrompt } from './long-prompt.js'
import { firstAndOwn } from './own-method.js'
import { quickStart } from './quick-start.js'
import { denoise } from './video.js'
import { route } from './vision.js'

// What the guide shows, run as it stands there, and held against dense attention.

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

/** Queries `sharpness` times as large concentrate attention on fewer keys. */
function inputs(
  name: 'gaussian' | 'stripes',
  queryHeads: number,
  kvHeads: number,
  length: number,
  { seed = 1, sharpness = 1 } = {},
) {
  const shape = { batch: 1, queryHeads, kvHeads, queryLength: length, keyLength: length, headDim: 32 }
  const made = makeInputs(name, shape, 'f32', seed)
  const upload = (values: ArrayLike<number>, heads: number) =>
    runtime.tensor('f32', [1, heads, length, 32], Float32Array.from(values))
  return {
    q: upload(
      made.q.map((x) => x * sharpness),
      queryHeads,
    ),
    k: upload(made.k, kvHeads),
    v: upload(made.v, kvHeads),
  }
}

/** Dense attention's output, for keys of the same heads. */
async function denseOutput({ q, k, v }: { q: Tensor; k: Tensor; v: Tensor }, causal: boolean) {
  using attention = await runtime.use(dense(), {
    queryHeads: q.shape[1]!,
    kvHeads: k.shape[1]!,
    headDim: 32,
    dtype: 'f32',
    causal,
  })
  return await runtime.read((await attention.run({ q, k, v })).out)
}

// The same kernels' sums in another order: some roundings of 6e-8.
const ROUNDING = 1e-5

describe('examples of the guide', () => {
  test('quick start: sparse, and the first token attends to itself alone', async () => {
    const { density, path, first } = await quickStart()
    expect(path).toBe('sparse')
    expect(density).toBeGreaterThan(0)
    expect(density).toBeLessThan(1)
    expect(Math.abs(first)).toBeLessThanOrEqual(1)
  })

  test('long prompt: dense below the length, sparse from there on', async () => {
    const prompt = inputs('stripes', 2, 1, 512, { sharpness: 8 })
    const short = await attendToPrompt(runtime, prompt)
    const expected = await denseOutput(prompt, true)
    expect(short.density).toBe(1)
    expect(relativeError(await runtime.read(short.out), expected)).toBeLessThan(ROUNDING)
    const long = await attendToPrompt(runtime, prompt, 256)
    expect(long.density).toBeLessThan(1)
    // The first block of queries sees its own block alone, and so everything that it may see.
    const firstBlock = 64 * 32
    const error = relativeError(
      (await runtime.read(long.out)).subarray(0, firstBlock),
      expected.subarray(0, firstBlock),
    )
    expect(error).toBeLessThan(ROUNDING)
  })

  test('decode: a budget above the length is dense attention', async () => {
    const prompt = inputs('gaussian', 4, 2, 48)
    const step = inputs('gaussian', 4, 2, 1, { seed: 2 })
    const [out] = await decode(runtime, prompt, [step])
    const join = async (a: Tensor, b: Tensor) => {
      const [first, last] = [await runtime.read(a), await runtime.read(b)]
      const all = new Float32Array(2 * 49 * 32)
      for (const head of [0, 1]) {
        all.set(first.subarray(head * 48 * 32, (head + 1) * 48 * 32), head * 49 * 32)
        all.set(last.subarray(head * 32, (head + 1) * 32), (head * 49 + 48) * 32)
      }
      return runtime.tensor('f32', [1, 2, 49, 32], all)
    }
    const expected = await denseOutput(
      { q: step.q, k: await join(prompt.k, step.k), v: await join(prompt.v, step.v) },
      true,
    )
    expect(relativeError(out!, expected)).toBeLessThan(ROUNDING)
  })

  test('video: steps alike skip what the first one found negligible', async () => {
    const step = inputs('stripes', 2, 2, 256, { sharpness: 8 })
    const densities = await denoise(runtime, [step, step, step])
    expect(densities[0]).toBe(1)
    expect(densities[1]).toBeLessThan(1)
    expect(densities[2]).toBeLessThanOrEqual(densities[1]!)
  })

  test('vision: each region has four routes, ascending', async () => {
    const { q, k, v } = inputs('gaussian', 2, 2, 64)
    const { routes } = await route(runtime, q, k, v, [8, 8])
    expect(routes).toHaveLength(16 * 4)
    for (let region = 0; region < 16; region++) {
      const own = [...routes.subarray(4 * region, 4 * region + 4)]
      expect(own).toEqual([...new Set(own)].sort((a, b) => a - b))
    }
  })

  test('own method: the first block and its own, and dense with all of them', async () => {
    const { q, k, v } = inputs('gaussian', 2, 2, 256)
    const config = { queryHeads: 2, headDim: 32, dtype: 'f32', causal: true } as const
    using attention = await runtime.use(firstAndOwn(), config)
    const { plan } = await attention.run({ q, k, v })
    const mask = await plan.toMask()
    const kept = (query: number, key: number) => mask[query * 256 + key] === 1
    expect([kept(200, 10), kept(200, 100), kept(200, 195), kept(200, 201)]).toEqual([true, false, true, false])
    using all = await runtime.use(firstAndOwn({ sinkBlocks: 4 }), config)
    const { out, plan: dense } = await all.run({ q, k, v })
    expect(dense.path).toBe('dense')
    expect(relativeError(await runtime.read(out), await denseOutput({ q, k, v }, true))).toBeLessThan(ROUNDING)
  })
})
