import {
  type AttentionShape,
  blockGrid,
  createRuntime,
  type DType,
  type HostBlockPlan,
  type HostPlan,
  type HostStripePlan,
  type HostVariableBlockPlan,
  type Runtime,
  uploadPlan,
} from '@sparse-attention/core'
import { createRandom, expectAttentionClose, makeInputs, type Random } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { dense } from '../dense/method.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

interface Lengths {
  readonly dtype: DType
  readonly causal: boolean
  readonly queryLength: number
  readonly keyLength: number
  readonly headDim: number
  readonly queryHeads?: number
  readonly scale?: number
}

const shapeOf = (c: Lengths): AttentionShape => ({ batch: 2, queryHeads: 4, kvHeads: 2, ...c })

/** Attends over an uploaded plan, and compares with float64 under the plan's own mask. */
async function checkPlan(c: Lengths, host: HostPlan): Promise<void> {
  const shape = shapeOf(c)
  const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim } = shape
  const inputs = makeInputs('gaussian', shape, c.dtype, 4)
  const scale = c.scale ?? 1 / Math.sqrt(c.headDim)
  using attention = await runtime.use(dense({ plan: host.kind }), { ...shape, ...c, scale })
  using q = runtime.tensor(c.dtype, [batch, queryHeads, queryLength, headDim], Float32Array.from(inputs.q))
  using k = runtime.tensor(c.dtype, [batch, kvHeads, keyLength, headDim], Float32Array.from(inputs.k))
  using v = runtime.tensor(c.dtype, [batch, kvHeads, keyLength, headDim], Float32Array.from(inputs.v))
  using plan = uploadPlan(runtime, host, shape)
  const { out, lse } = await attention.run({ q, k, v }, { plan })
  const mask = await plan.toMask()
  expect(mask.some((bit) => bit === 0) && mask.some((bit) => bit === 1)).toBe(true)
  const actual = { out: await runtime.read(out), lse: await runtime.read(lse) }
  expectAttentionClose(actual, { ...shape, ...inputs, mask, scale, dtype: c.dtype, name: JSON.stringify(c) })
  out.buffer.destroy()
  lse.buffer.destroy()
}

/** Bits past the last block are set too: kernels must not follow them out of bounds. */
function randomBits(random: Random, words: number, density: number): Uint32Array {
  return Uint32Array.from({ length: words }, () => {
    let word = 0
    for (let bit = 0; bit < 32; bit++) if (random.uniform() < density) word |= 1 << bit
    return word >>> 0
  })
}

const geometry = (c: Lengths) => {
  const { batch, queryHeads, queryLength, keyLength } = shapeOf(c)
  return { batch, queryHeads, queryLength, keyLength, causal: c.causal }
}

describe('over blocks', () => {
  const cases: (Lengths & { blockQ: number; blockK: number; density: number })[] = [
    { dtype: 'f32', causal: true, queryLength: 300, keyLength: 300, headDim: 64, blockQ: 64, blockK: 64, density: 0.5 },
    {
      dtype: 'f16',
      causal: false,
      queryLength: 130,
      keyLength: 390,
      headDim: 64,
      blockQ: 128,
      blockK: 128,
      density: 0.3,
    },
    {
      dtype: 'f16',
      causal: true,
      queryLength: 150,
      keyLength: 270,
      headDim: 128,
      blockQ: 64,
      blockK: 192,
      density: 0.4,
    },
    { dtype: 'f32', causal: true, queryLength: 70, keyLength: 2300, headDim: 32, blockQ: 64, blockK: 64, density: 0.1 },
    // Every score is 0, of which keys that are not there must have no part; and the lowest product scores highest.
    ...[0, -0.4].map((scale) => ({
      dtype: 'f16' as const,
      causal: false,
      queryLength: 20,
      keyLength: 90,
      headDim: 16,
      blockQ: 64,
      blockK: 64,
      density: 0.7,
      scale,
    })),
    // Heads enough for the kernels that only large calls are worth.
    {
      dtype: 'f16',
      causal: true,
      queryLength: 130,
      keyLength: 90,
      headDim: 16,
      queryHeads: 64,
      blockQ: 128,
      blockK: 64,
      density: 0.5,
    },
  ]
  test.each(cases)(
    '$dtype $queryLength×$keyLength head_dim $headDim blocks $blockQ×$blockK at density $density',
    async (c) => {
      const { blockQ, blockK } = c
      const plan = { ...geometry(c), blockQ, blockK }
      const { queryBlocks, wordsPerRow } = blockGrid(plan)
      const words = plan.batch * plan.queryHeads * queryBlocks * wordsPerRow
      const bitmap = randomBits(createRandom(c.keyLength), words, c.density)
      await checkPlan(c, { kind: 'block', ...plan, bitmap } satisfies HostBlockPlan)
    },
  )
})

describe('over stripes', () => {
  /** Wide stripes at any offset, and single columns between them; every fifth row has none. */
  function randomStripes(c: Lengths & { heads: number; blockQ: number; width: number }): HostStripePlan {
    const random = createRandom(c.keyLength + c.width)
    const rows = 2 * c.heads * Math.ceil(c.queryLength / c.blockQ)
    const lists = [
      { width: c.width, capacity: Math.ceil(c.keyLength / c.width) },
      { width: 1, capacity: c.keyLength },
    ]
    const counts = new Int32Array(2 * rows)
    const indices = new Int32Array(rows * (lists[0]!.capacity + lists[1]!.capacity)).fill(-1)
    for (let row = 0; row < rows; row++) {
      if (row % 5 === 4) continue
      for (let key = 0; key < c.keyLength; ) {
        const draw = random.uniform()
        const list = draw < 0.02 ? 0 : 1
        if (draw < 0.25) {
          const { capacity } = lists[list]!
          indices[list * rows * lists[0]!.capacity + row * capacity + counts[list * rows + row]!++] = key
        }
        key += draw < 0.02 ? c.width : 1
      }
    }
    return { kind: 'stripe', ...geometry(c), blockQ: c.blockQ, heads: c.heads, lists, counts, indices }
  }

  const cases: (Lengths & { heads: number; blockQ: number; width: number })[] = [
    { dtype: 'f16', causal: true, queryLength: 200, keyLength: 300, headDim: 64, heads: 4, blockQ: 64, width: 64 },
    { dtype: 'f32', causal: false, queryLength: 70, keyLength: 190, headDim: 128, heads: 2, blockQ: 128, width: 13 },
    { dtype: 'f16', causal: true, queryLength: 130, keyLength: 90, headDim: 32, heads: 4, blockQ: 64, width: 7 },
  ]
  test.each(cases)('$dtype $queryLength×$keyLength head_dim $headDim, $heads heads, stripes of $width', (c) =>
    checkPlan(c, randomStripes(c)),
  )
})

describe('over blocks of different sizes', () => {
  const starts = (random: Random, blocks: number, length: number) => {
    const cuts = Array.from({ length: blocks - 1 }, () => Math.floor(random.uniform() * (length + 1)))
    return [0, ...cuts.sort((a, b) => a - b), length]
  }
  function randomClusters(
    c: Lengths & { queryBlocks: number; keyBlocks: number; keyHeads: number },
  ): HostVariableBlockPlan {
    const { queryBlocks, keyBlocks, keyHeads } = c
    const random = createRandom(c.keyLength)
    const repeat = (count: number, make: () => number[]) => Int32Array.from(Array.from({ length: count }, make).flat())
    return {
      kind: 'variable-block',
      ...geometry(c),
      queryBlocks,
      keyBlocks,
      keyHeads,
      bitmap: randomBits(random, 2 * 4 * queryBlocks * Math.ceil(keyBlocks / 32), 0.4),
      queryStarts: repeat(8, () => starts(random, queryBlocks, c.queryLength)),
      keyStarts: repeat(2 * keyHeads, () => starts(random, keyBlocks, c.keyLength)),
    }
  }

  const cases: (Lengths & { queryBlocks: number; keyBlocks: number; keyHeads: number })[] = [
    {
      dtype: 'f16',
      causal: false,
      queryLength: 300,
      keyLength: 280,
      headDim: 64,
      queryBlocks: 5,
      keyBlocks: 9,
      keyHeads: 2,
    },
    {
      dtype: 'f32',
      causal: true,
      queryLength: 90,
      keyLength: 120,
      headDim: 32,
      queryBlocks: 70,
      keyBlocks: 40,
      keyHeads: 4,
    },
  ]
  test.each(cases)('$dtype $queryBlocks blocks of $queryLength queries, $keyBlocks of $keyLength keys', (c) =>
    checkPlan(c, randomClusters(c)),
  )
})

test('a plan of a kind that was not compiled is refused before any work', async () => {
  const c: Lengths = { dtype: 'f32', causal: false, queryLength: 64, keyLength: 64, headDim: 32 }
  const shape = shapeOf(c)
  using attention = await runtime.use(dense(), { ...shape, ...c })
  using q = runtime.tensor('f32', [2, 4, 64, 32])
  using k = runtime.tensor('f32', [2, 2, 64, 32])
  const lists = [{ width: 1, capacity: 1 }]
  const host = { kind: 'stripe', ...geometry(c), blockQ: 64, heads: 4, lists } as const
  using plan = uploadPlan(runtime, { ...host, counts: new Int32Array(8), indices: new Int32Array(8) }, shape)
  await expect(attention.run({ q, k, v: k }, { plan })).rejects.toThrow(
    expect.objectContaining({
      code: 'UNSUPPORTED',
      fix: "Use a method that makes such plans, e.g. dense({ plan: 'stripe' }).",
    }),
  )
})
