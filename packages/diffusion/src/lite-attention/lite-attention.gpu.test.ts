import {
  type AttentionContext,
  type AttentionShape,
  type AttentionState,
  denseMask,
  type HostBlockPlan,
  hasBlock,
  type Plan,
  type Runtime,
  type SparseAttention,
  uploadPlan,
} from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import {
  createRandom,
  expectAttentionClose,
  type Inputs,
  makeInputs,
  testRuntime,
  testTiers,
} from '@sparse-attention/testing'
import { beforeAll, describe, expect, test } from 'vitest'
import { calibrateThreshold } from './calibrate.js'
import { type LiteAttentionOptions, liteAttention } from './method.js'
import { type LiteAttentionMemory, liteAttentionStep } from './reference.js'

// Six blocks of queries and of keys, the last ones short.
const shape: AttentionShape = { batch: 2, queryHeads: 2, kvHeads: 1, queryLength: 330, keyLength: 330, headDim: 32 }
const config = { queryHeads: 2, kvHeads: 1, headDim: 32, dtype: 'f32', causal: false, scale: 0.25 } as const

/** The inputs of a step: those of the video, a little different each time. */
function stepInputs(step: number): Inputs {
  const { q, k, v } = makeInputs('stripes', shape, 'f32', 5)
  const random = createRandom(step)
  const drift = (values: Float64Array) =>
    Float64Array.from(values, (x) => Math.fround(x * (1 + 0.05 * random.gaussian())))
  return { q: drift(q), k: drift(k), v: drift(v) }
}

interface Step {
  readonly plan: HostBlockPlan
  readonly path: string
  readonly out: Float32Array
  readonly lse: Float32Array
}

interface CallOptions {
  readonly state?: AttentionState
  readonly context?: AttentionContext
  /** Attend over this plan. */
  readonly given?: HostBlockPlan
  /** Over the plan that the last call returned, as it returned it. */
  readonly again?: boolean
}

/** What an attention last planned. */
const latest = new WeakMap<SparseAttention, Plan>()

async function call(
  runtime: Runtime,
  attention: SparseAttention,
  inputs: Inputs,
  { state, context, given, again }: CallOptions = {},
): Promise<Step> {
  const upload = (values: Float64Array, heads: number) =>
    runtime.tensor('f32', [shape.batch, heads, shape.keyLength, shape.headDim], Float32Array.from(values))
  using q = upload(inputs.q, 2)
  using k = upload(inputs.k, 1)
  using v = upload(inputs.v, 1)
  using uploaded = given && uploadPlan(runtime, given, shape)
  const tensors = { q, k, v, ...(context && { context }), ...(state && { state }) }
  const used = again ? latest.get(attention) : uploaded
  const { out, lse, plan } = await attention.run(tensors, used && { plan: used })
  if (!used) latest.set(attention, plan)
  const step = {
    plan: (await plan.read()) as HostBlockPlan,
    path: plan.path,
    out: await runtime.read(out),
    lse: await runtime.read(lse),
  }
  out.buffer.destroy()
  lse.buffer.destroy()
  return step
}

/** u8[B, Hq, nq, nk] */
function keptBlocks(plan: HostBlockPlan): Uint8Array {
  const blocks: number[] = []
  const rows = Math.ceil(shape.queryLength / plan.blockQ)
  for (let b = 0; b < shape.batch; b++)
    for (let h = 0; h < shape.queryHeads; h++)
      for (let a = 0; a < rows; a++)
        for (let c = 0; c < Math.ceil(shape.keyLength / plan.blockK); c++)
          blocks.push(Number(hasBlock(plan, b, h, a, c)))
  return Uint8Array.from(blocks)
}

const count = (blocks: Uint8Array) => blocks.reduce((sum, kept) => sum + kept, 0)

describe.each(await testTiers())('lite-attention on tier %s', (tier) => {
  let runtime: Runtime
  beforeAll(async () => {
    runtime = await testRuntime(tier)
  })

  const use = (options: Partial<LiteAttentionOptions>) => runtime.use(liteAttention({ blockQ: 64, ...options }), config)

  /** Four steps of a video against float64, block by block. Gives what each kept. */
  async function followVideo(
    options: Partial<LiteAttentionOptions>,
    context: AttentionContext = {},
    steps = 4,
  ): Promise<number[]> {
    const configured = liteAttention({ blockQ: 64, ...options }).options
    using attention = await use(options)
    using state = attention.createState()
    const memory: LiteAttentionMemory = {}
    const counts: number[] = []
    let before: Uint8Array = new Uint8Array(0)
    for (let step = 0; step < steps; step++) {
      const inputs = stepInputs(step)
      const at = { ...context, step, steps: 4 }
      const { plan, out, lse } = await call(runtime, attention, inputs, { state, context: at })
      const expected = liteAttentionStep({ ...shape, ...config, ...inputs, context: at }, configured, memory)
      // Closer votes could fall otherwise in float32; there is none among these inputs.
      expect(expected.margin).toBeGreaterThan(1e-5)
      const kept = keptBlocks(plan)
      expect(kept).toEqual(expected.kept)
      if (step > 0) expect(kept.every((bit, i) => bit <= before[i]!)).toBe(true)
      const problem = { ...shape, ...inputs, scale: config.scale, mask: denseMask(plan), dtype: 'f32' } as const
      expectAttentionClose({ out, lse }, { ...problem, name: `step ${step}` })
      before = kept
      counts.push(count(kept))
    }
    return counts
  }

  test('what a step keeps is what float64 keeps, step after step, and never grows', async () => {
    const counts = await followVideo({ threshold: -6 })
    expect(counts[0]).toBe(144)
    expect(counts[1]).toBeLessThan(120)
    expect(counts[3]).toBeGreaterThanOrEqual(24) // a row of blocks keeps its first one
  })

  test('blocks of must-do keys, text behind the grid and its rows are never skipped', async () => {
    // 66 tokens of text: the last block and one token of the block before.
    const counts = await followVideo({ threshold: -2, mustDoFirst: 65 }, { grid: [4, 66] }, 2)
    expect(counts[1]).toBeGreaterThanOrEqual(4 * (2 * 6 + 4 * 4))
    expect(counts[1]).toBeLessThan(144)
    expect(await followVideo({ threshold: -2, mustDoLast: 330 }, {}, 2)).toEqual([144, 144])
  })

  test('thresholds of a table are taken by layer, and by the share of the way', async () => {
    // Two entries for four steps; layer 5 takes the last row.
    const counts = await followVideo(
      {
        threshold: [
          [0, 0],
          [-1000, -6],
        ],
      },
      { layer: 5 },
    )
    expect(counts.slice(0, 3)).toEqual([144, 144, 144])
    expect(counts[3]).toBeLessThan(120)
  })

  test('at −1000 nothing is skipped, and outputs are those of dense attention', async () => {
    using attention = await use({ threshold: -1000 })
    using reference = await runtime.use(dense(), config)
    for (let step = 0; step < 3; step++) {
      const { plan, out, lse } = await call(runtime, attention, stepInputs(step))
      expect(count(keptBlocks(plan))).toBe(144)
      const expected = await call(runtime, reference, stepInputs(step))
      expect(out).toEqual(expected.out)
      expect(lse).toEqual(expected.lse)
    }
  })

  test('dense steps and layers, and calls over a given plan, leave what is carried as it is', async () => {
    using attention = await use({ threshold: -6, denseSteps: 2, denseLayers: 1 })
    using state = attention.createState()
    const at = (step: number, layer = 1, more: CallOptions = {}) =>
      call(runtime, attention, stepInputs(step), { state, context: { step, steps: 6, layer }, ...more })
    for (const step of [0, 1]) expect((await at(step)).path).toBe('dense')
    expect((await at(3, 0)).path).toBe('dense')
    expect(state.sizeBytes).toBe(0)
    const first = await at(2)
    expect(count(keptBlocks(first.plan))).toBe(144)
    // The same plan once more, over queries that need every block.
    const flat = { ...stepInputs(2), q: new Float64Array(stepInputs(2).q.length) }
    await call(runtime, attention, flat, { state, context: { step: 4, steps: 6, layer: 1 }, again: true })
    await at(1)
    await at(3, 1, { given: { ...first.plan, bitmap: first.plan.bitmap.map(() => 1) } })
    const second = await at(3)
    using undisturbed = await use({ threshold: -6 })
    await call(runtime, undisturbed, stepInputs(2))
    const expected = await call(runtime, undisturbed, stepInputs(3))
    expect(count(keptBlocks(expected.plan))).toBeLessThan(120)
    // A number first: what differs of so much else takes minutes to print.
    expect(count(keptBlocks(second.plan))).toBe(count(keptBlocks(expected.plan)))
    expect(second).toEqual(expected)
  })

  test('a threshold is found whose error is the target’s, and the ends where it is out of reach', async () => {
    const upload = ({ q, k, v }: Inputs) => ({
      q: runtime.tensor('f32', [2, 2, 330, 32], Float32Array.from(q)),
      k: runtime.tensor('f32', [2, 1, 330, 32], Float32Array.from(k)),
      v: runtime.tensor('f32', [2, 1, 330, 32], Float32Array.from(v)),
    })
    const tensors = upload(makeInputs('gaussian', shape, 'f32', 5))
    const options = { blockQ: 64 }
    const loose = await calibrateThreshold(runtime, config, tensors, { ...options, targetError: 0.2 })
    const tight = await calibrateThreshold(runtime, config, tensors, { ...options, targetError: 0.02 })
    expect(tight.error).toBeLessThanOrEqual(0.02)
    expect(loose.error).toBeLessThanOrEqual(0.2)
    expect(loose.threshold).toBeGreaterThan(tight.threshold)
    expect(loose.density).toBeLessThan(tight.density)
    const all = await calibrateThreshold(runtime, config, tensors, { ...options, mustDoFirst: 330 })
    expect(all).toEqual({ threshold: 0, error: 0, density: 1 })
    await expect(calibrateThreshold(runtime, config, tensors, { targetError: 0 })).rejects.toEqual(
      expect.objectContaining({ code: 'INVALID_OPTION', where: 'targetError' }),
    )
    for (const tensor of Object.values(tensors)) tensor.dispose()
  })
})
