import {
  createRuntime,
  defineMethod,
  type HostBlockPlan,
  type HostPermutedPlan,
  type HostPlan,
  type HostStripePlan,
  type HostVariableBlockPlan,
  type Runtime,
  uploadPlan,
} from '@sparse-attention/core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { denseMask } from './host-plan.js'
import { PlanMemory } from './plan-view.js'
import { config, disposeAll, makeTensors, watch } from './test-support.js'

let runtime: Runtime

beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime?.dispose())

const shape = { batch: 1, queryHeads: 2, kvHeads: 1, queryLength: 130, keyLength: 200, headDim: 8 }
/** Three query blocks, four key blocks. */
const host: HostBlockPlan = {
  kind: 'block',
  batch: 1,
  queryHeads: 2,
  queryLength: 130,
  keyLength: 200,
  blockQ: 64,
  blockK: 64,
  causal: true,
  bitmap: Uint32Array.of(0b0001, 0b0101, 0b1010, 0b0011, 0b0000, 0b1111),
}

const stripes: HostStripePlan = {
  kind: 'stripe',
  batch: 1,
  queryHeads: 2,
  queryLength: 130,
  keyLength: 200,
  causal: true,
  blockQ: 64,
  heads: 1,
  lists: [
    { width: 64, capacity: 1 },
    { width: 1, capacity: 2 },
  ],
  counts: Int32Array.of(1, 1, 0, 0, 1, 2),
  indices: Int32Array.of(3, 100, -1, -1, -1, 7, -1, 0, 5),
}

const clusters: HostVariableBlockPlan = {
  kind: 'variable-block',
  batch: 1,
  queryHeads: 2,
  queryLength: 130,
  keyLength: 200,
  causal: true,
  queryBlocks: 2,
  keyBlocks: 3,
  keyHeads: 1,
  bitmap: Uint32Array.of(0b001, 0b101, 0b111, 0b010),
  queryStarts: Int32Array.of(0, 100, 130, 0, 0, 130),
  keyStarts: Int32Array.of(0, 10, 150, 200),
}

/** Tokens from the last to the first. */
const backwards = (heads: number, length: number) =>
  Int32Array.from({ length: heads * length }, (_, i) => length - 1 - (i % length))
const permuted: HostPermutedPlan = {
  ...clusters,
  causal: false,
  permutation: { keyHeads: 1, queries: backwards(2, 130), keys: backwards(1, 200) },
}

describe('an uploaded plan', () => {
  test.each([stripes, clusters, permuted])('of $kind reads back as it was, and clones do', async (given) => {
    using plan = uploadPlan(runtime, given, shape)
    expect(plan).toMatchObject({ kind: given.kind, path: 'sparse' })
    expect(await plan.read()).toEqual(given)
    using clone = plan.clone()
    plan.dispose()
    expect(await clone.read()).toEqual(given)
    expect(await clone.toMask()).toEqual(denseMask(given))
  })

  test.each<[string, HostPlan, string, string]>([
    ['counts that are short', { ...stripes, counts: new Int32Array(5) }, 'INVALID_SHAPE', 'counts'],
    ['indices that are long', { ...stripes, indices: new Int32Array(10) }, 'INVALID_SHAPE', 'indices'],
    ['heads that divide nothing', { ...stripes, heads: 3 }, 'INVALID_SHAPE', 'heads'],
    ['stripes of no width', { ...stripes, lists: [{ width: 0, capacity: 3 }] }, 'INVALID_ARGUMENT', 'width'],
    [
      'three lists',
      { ...stripes, lists: Array(3).fill({ width: 1, capacity: 1 }) },
      'INVALID_ARGUMENT',
      'lists.length',
    ],
    ['no lists', { ...stripes, lists: [] }, 'INVALID_ARGUMENT', 'lists.length'],
    ['key heads that divide nothing', { ...clusters, keyHeads: 3 }, 'INVALID_SHAPE', 'keyHeads'],
    ['half a capacity', { ...stripes, lists: [{ width: 1, capacity: 0.5 }] }, 'INVALID_ARGUMENT', 'capacity'],
    ['no blocks', { ...clusters, keyBlocks: 0 }, 'INVALID_ARGUMENT', 'keyBlocks'],
    [
      'orders that are short',
      { ...permuted, permutation: { ...permuted.permutation, keys: new Int32Array(3) } },
      'INVALID_SHAPE',
      'permutation.keys',
    ],
    [
      'orders that no heads share',
      { ...permuted, permutation: { ...permuted.permutation, keyHeads: 3 } },
      'INVALID_SHAPE',
      'permutation.keyHeads',
    ],
    ['a permutation under causality', { ...permuted, causal: true }, 'INVALID_ARGUMENT', 'permutation'],
    ['starts that are short', { ...clusters, queryStarts: new Int32Array(3) }, 'INVALID_SHAPE', 'queryStarts'],
  ])('%s are refused, and nothing is created', (_, wrong, code, where) => {
    using watched = watch(runtime.device)
    expect(() => uploadPlan(runtime, wrong, shape)).toThrow(expect.objectContaining({ code, where }))
    expect(watched.counts.created).toBe(0)
  })

  test('reads back as it was, and clones do', async () => {
    using plan = uploadPlan(runtime, host, shape)
    expect(plan).toMatchObject({ method: 'uploaded', path: 'sparse', shape, causal: true })
    expect(await plan.read()).toEqual(host)
    using clone = plan.clone()
    plan.dispose()
    expect(await clone.read()).toEqual(host)
    await expect(plan.read()).rejects.toThrow(expect.objectContaining({ code: 'DISPOSED' }))
    expect(() => plan.clone()).toThrow(expect.objectContaining({ code: 'DISPOSED' }))
  })

  test('gives the mask of its blocks, and counts it', async () => {
    using plan = uploadPlan(runtime, host, shape)
    const mask = await plan.toMask()
    expect(mask).toEqual(denseMask(host))
    const kept = mask.reduce((sum, bit) => sum + bit, 0)
    const visible = 2 * (130 * 200 - (129 * 130) / 2)
    expect(await plan.stats()).toEqual({
      path: 'sparse',
      keptPairs: kept,
      visiblePairs: visible,
      density: kept / visible,
    })
  })

  test('without a visible pair has density 1: nothing was left out', async () => {
    const none = {
      ...host,
      batch: 1,
      queryHeads: 1,
      queryLength: 64,
      keyLength: 1,
      bitmap: Uint32Array.of(0),
      causal: true,
    }
    using plan = uploadPlan(runtime, { ...none, queryLength: 1 }, { ...shape, ...none, queryLength: 1 })
    expect(await plan.stats()).toMatchObject({ density: 0, visiblePairs: 1 })
    using blind = uploadPlan(runtime, none, { ...shape, ...none })
    expect((await blind.stats()).visiblePairs).toBe(1) // the last row sees the key
  })

  test('frees its memory, once', () => {
    using watched = watch(runtime.device)
    const plan = uploadPlan(runtime, host, shape)
    const clone = plan.clone()
    expect(watched.live()).toBe(2)
    plan.dispose()
    plan.dispose()
    clone[Symbol.dispose]()
    expect(watched.live()).toBe(0)
  })

  test.each<[string, Partial<HostBlockPlan>, string, string]>([
    ['a bitmap that is short', { bitmap: new Uint32Array(5) }, 'INVALID_SHAPE', 'bitmap'],
    ['a bitmap that is long', { bitmap: new Uint32Array(7) }, 'INVALID_SHAPE', 'bitmap'],
    ['another batch', { batch: 2, bitmap: new Uint32Array(12) }, 'INVALID_SHAPE', 'batch'],
    ['other heads', { queryHeads: 1, bitmap: new Uint32Array(3) }, 'INVALID_SHAPE', 'queryHeads'],
    ['another query length', { queryLength: 131 }, 'INVALID_SHAPE', 'queryLength'],
    ['another key length', { keyLength: 201 }, 'INVALID_SHAPE', 'keyLength'],
    ['blocks of 32 queries', { blockQ: 32, bitmap: new Uint32Array(10) }, 'INVALID_ARGUMENT', 'blockQ'],
    ['blocks of 96 keys', { blockK: 96 }, 'INVALID_ARGUMENT', 'blockK'],
    ['blocks of no keys', { blockK: 0 }, 'INVALID_ARGUMENT', 'blockK'],
    ['blocks of NaN keys', { blockK: Number.NaN }, 'INVALID_ARGUMENT', 'blockK'],
  ])('%s is refused, and nothing is created', (_, wrong, code, where) => {
    using watched = watch(runtime.device)
    expect(() => uploadPlan(runtime, { ...host, ...wrong }, shape)).toThrow(expect.objectContaining({ code, where }))
    expect(watched.counts.created).toBe(0)
  })
})

test('a plan that is too large to bind is refused before it is made', () => {
  const limits = { maxStorageBufferBindingSize: 16 }
  const small = {
    assertUsable() {},
    device: { limits, createBuffer: () => expect.unreachable() },
  } as unknown as Runtime
  expect(() => uploadPlan(small, host, shape)).toThrow(
    expect.objectContaining({ code: 'LIMIT_EXCEEDED', where: 'maxStorageBufferBindingSize' }),
  )
  expect(() => new PlanMemory(small).allocate(17)).toThrow(expect.objectContaining({ code: 'LIMIT_EXCEEDED' }))
})

test('plan memory grows by doubling, so that what was outgrown stays smaller than what is used', () => {
  using watched = watch(runtime.device)
  const memory = new PlanMemory(runtime)
  for (let size = 16; size < 5000; size += 16) {
    memory.nextGeneration()
    expect(memory.allocate(size).sizeBytes).toBe(size)
  }
  expect(watched.counts.created).toBe(10) // 16, 32, … 8192
  memory.dispose()
  expect(watched.live()).toBe(0)
})

test('a dense plan reads as all blocks with a visible pair, whatever the lengths', async () => {
  const keepAll = defineMethod<Record<never, never>>({
    id: 'keep-all',
    title: 'Keep all',
    phase: 'any',
    summary: 'Plans nothing and attends nothing.',
    citation: { title: 'None', authors: 'Nobody', year: 2026, url: 'https://example.org' },
    options: {},
    capabilities: { causal: [true, false], queryLength: 'any', dtypes: ['f32'], headDim: { multipleOf: 8, max: 8 } },
    neutral: {},
    scaled: () => ({}),
    create: async () => ({ plan: () => ({ plan: { kind: 'dense' }, dispatches: [] }), attend: () => [], dispose() {} }),
  })
  for (const causal of [true, false]) {
    using attention = await runtime.use(keepAll(), { ...config, causal })
    for (const lengths of [
      { queryLength: 1, keyLength: 1 },
      { queryLength: 300, keyLength: 20 },
      { queryLength: 3, keyLength: 4200 }, // more than 32 blocks: two words a row
    ]) {
      const tensors = makeTensors(runtime, 1, { batch: 1, ...lengths })
      const result = await attention.run(tensors)
      expect(result.plan).toMatchObject({ path: 'dense', method: 'keep-all' })
      const { queryLength, keyLength } = lengths
      const mask = await result.plan.toMask()
      for (let i = 0; i < mask.length; i++) {
        const [row, key] = [Math.floor(i / keyLength) % queryLength, i % keyLength]
        if (mask[i] !== Number(!causal || key <= row + keyLength - queryLength))
          throw new Error(`wrong at row ${row}, key ${key}`)
      }
      expect(await result.plan.stats()).toMatchObject({ density: 1, path: 'dense' })
      using clone = result.plan.clone()
      await attention.run({ ...tensors, ...result })
      expect((await clone.stats()).density).toBe(1)
      disposeAll({ ...tensors, ...result })
    }
  }
})

test('a plan of permuted tokens runs only in programs that say that they attend over one', async () => {
  const method = (permutedPlans: boolean) =>
    defineMethod<Record<never, never>>({
      id: permutedPlans ? 'permutes' : 'does-not-permute',
      title: 'Attends nothing',
      phase: 'any',
      summary: 'Plans nothing and attends nothing.',
      citation: { title: 'None', authors: 'Nobody', year: 2026, url: 'https://example.org' },
      options: {},
      capabilities: { causal: [false], queryLength: 'any', dtypes: ['f32'], headDim: { multipleOf: 8, max: 8 } },
      neutral: {},
      scaled: () => ({}),
      create: async () => ({
        plan: () => ({ plan: { kind: 'dense' }, dispatches: [] }),
        attend: () => [],
        ...(permutedPlans && { permutedPlans }),
        dispose() {},
      }),
    })()
  const own = { ...permuted, queryHeads: 4, bitmap: new Uint32Array(8), queryStarts: new Int32Array(12) }
  using plan = uploadPlan(
    runtime,
    { ...own, permutation: { ...permuted.permutation, queries: backwards(4, 130) } },
    { ...shape, queryHeads: 4, kvHeads: 4 },
  )
  const call = { ...config, causal: false }
  const tensors = makeTensors(runtime, 1, { batch: 1, queryLength: 130, keyLength: 200 })
  using able = await runtime.use(method(true), call)
  const result = await able.run(tensors, { plan })
  expect(result.plan.kind).toBe('variable-block')
  using unable = await runtime.use(method(false), call)
  await expect(unable.run(tensors, { plan })).rejects.toMatchObject({ code: 'UNSUPPORTED', where: 'plan' })
  disposeAll({ ...tensors, ...result })
})
