import {
  createRuntime,
  type DType,
  denseMask,
  type HostStripePlan,
  type PlanData,
  type Runtime,
  type StripePlanData,
} from '@sparse-attention/core'
import { createRandom, expectAttentionClose, type InputKind, makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { testFrame } from '../shared/test-frame.js'
import { splitAttention } from './split-attention.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

interface Case {
  readonly dtype: DType
  readonly causal: boolean
  readonly batch: number
  readonly queryHeads: number
  readonly kvHeads: number
  readonly queryLength: number
  readonly keyLength: number
  readonly headDim: number
  readonly inputs?: InputKind
  /** Stripes: heads of the lists, and the width of the first one. */
  readonly lists?: { readonly heads: number; readonly width: number }
}

async function check(c: Case, runtime: Runtime): Promise<void> {
  const inputs = makeInputs(c.inputs ?? 'gaussian', c, c.dtype, 5)
  const scale = c.inputs === 'f16-extremes' ? 0.25 : 1 / Math.sqrt(c.headDim)
  using frame = testFrame(runtime, c, inputs, { dtype: c.dtype, causal: c.causal, scale })
  const attend = await splitAttention(runtime, { ...c, scale })
  const host = c.lists && randomLists(c, c.lists)
  const upload = (values: Int32Array) => frame.memory([values.length], new Float32Array(values.buffer))
  const plan: PlanData = host
    ? ({ ...host, counts: upload(host.counts), indices: upload(host.indices) } satisfies StripePlanData)
    : { kind: 'dense' }
  await frame.submit(attend(frame.frame, plan))
  const actual = { out: await runtime.read(frame.frame.out), lse: await runtime.read(frame.frame.lse) }
  const mask = host ? denseMask(host) : c.causal ? 'causal' : 'none'
  expectAttentionClose(actual, { ...c, ...inputs, scale, mask, name: JSON.stringify(c) })
}

/** Pages of `width` keys that start at its multiples, and single keys between them; the last head has nothing. */
function randomLists(c: Case, { heads, width }: NonNullable<Case['lists']>): HostStripePlan {
  const random = createRandom(c.keyLength)
  const rows = c.batch * heads
  const lists = [
    { width, capacity: Math.ceil(c.keyLength / width) },
    { width: 1, capacity: c.keyLength },
  ]
  const counts = new Int32Array(2 * rows)
  const indices = new Int32Array(rows * (lists[0]!.capacity + c.keyLength)).fill(-1)
  const keep = (list: number, row: number, key: number) => {
    const at = list * rows * lists[0]!.capacity + row * lists[list]!.capacity
    indices[at + counts[list * rows + row]!++] = key
  }
  for (let row = 0; row < rows - 1; row++) {
    for (let page = 0; page < lists[0]!.capacity; page++) {
      const end = Math.min((page + 1) * width, c.keyLength)
      if (random.uniform() < 0.4 || end === c.keyLength) keep(0, row, page * width)
      else for (let key = page * width; key < end; key++) if (random.uniform() < 0.2) keep(1, row, key)
    }
  }
  return { kind: 'stripe', ...c, blockQ: 64, heads, lists, counts, indices }
}

const one: Case = {
  dtype: 'f16',
  causal: true,
  batch: 2,
  queryHeads: 4,
  kvHeads: 2,
  queryLength: 1,
  keyLength: 700,
  headDim: 64,
}

describe('dense', () => {
  test.each<Partial<Case>>([
    {},
    { queryHeads: 16, kvHeads: 2, dtype: 'f32', keyLength: 257 },
    { queryLength: 5, queryHeads: 6, kvHeads: 3, headDim: 80, keyLength: 300 },
    { queryLength: 7, keyLength: 3, headDim: 24 }, // the first rows see nothing
    { keyLength: 1, headDim: 8, dtype: 'f32' },
    { headDim: 256, dtype: 'f32', causal: false, keyLength: 150 },
    { headDim: 256, queryLength: 2, keyLength: 150 },
    { inputs: 'huge-logits' },
    { inputs: 'f16-extremes', headDim: 128 },
    { inputs: 'identical-keys', dtype: 'f32', causal: false },
  ])('%o', (given) => check({ ...one, ...given }, runtime))
})

describe('over lists', () => {
  test.each<Partial<Case>>([
    { lists: { heads: 2, width: 16 } },
    { lists: { heads: 4, width: 64 }, dtype: 'f32', queryLength: 3 },
    { lists: { heads: 2, width: 5 }, queryLength: 4, queryHeads: 8, causal: false, headDim: 96 },
  ])('%o', (given) => check({ ...one, ...given }, runtime))
})

describe('as on a GPU: unrolled, with kernels for a single query', () => {
  let gpu: Runtime
  beforeAll(async () => {
    gpu = await createRuntime({ software: false })
  })
  afterAll(() => gpu.dispose())

  const cases: Partial<Case>[] = [
    { queryHeads: 8, keyLength: 1500 },
    { queryHeads: 8, lists: { heads: 2, width: 16 } },
    { queryHeads: 8, lists: { heads: 8, width: 16 } }, // a list for each query head
    { queryHeads: 8, queryLength: 3, inputs: 'huge-logits' },
  ]
  test.each(cases)('%o', (given) => check({ ...one, ...given }, gpu))

  // Where only half precision keeps a device from the tier f16, its kernels still compute with packed halves.
  test.each([...cases, { headDim: 24, dtype: 'f32', inputs: 'huge-logits', queryLength: 1 } as const])(
    'with shuffles: %o',
    async (given) => {
      if (!gpu.device.features.has('subgroups')) return console.log('skipped: no feature `subgroups`')
      const shuffling = Object.assign(Object.create(null) as Runtime, {
        tier: 'f16',
        software: false,
        subgroupMinSize: gpu.subgroupMinSize,
        uniforms: gpu.uniforms,
        device: gpu.device,
        tensor: gpu.tensor.bind(gpu),
        kernel: gpu.kernel.bind(gpu),
        read: gpu.read.bind(gpu),
        idle: gpu.idle.bind(gpu),
      })
      await check({ ...one, ...given }, shuffling)
    },
  )
})

test('NaN in a key or a value stays within the rows that see it', async () => {
  const c: Case = { ...one, batch: 1, queryLength: 3, keyLength: 200, dtype: 'f32' }
  for (const tensor of ['k', 'v'] as const) {
    const inputs = makeInputs('gaussian', c, c.dtype, 6)
    // Key 198 of KV head 0: query 0 does not see it.
    for (let d = 0; d < 64; d++) inputs[tensor][198 * 64 + d] = Number.NaN
    using frame = testFrame(runtime, c, inputs, { dtype: 'f32', causal: true, scale: 0.125 })
    const attend = await splitAttention(runtime, { ...c, scale: 0.125 })
    await frame.submit(attend(frame.frame, { kind: 'dense' }))
    const out = await runtime.read(frame.frame.out)
    const poisoned = (row: number) => out.slice(row * 64, (row + 1) * 64).some(Number.isNaN)
    const rows = Array.from({ length: 12 }, (_, row) => row)
    expect(rows.filter(poisoned)).toEqual([1, 2, 4, 5])
  }
})

test('a plan of blocks is refused', async () => {
  using frame = testFrame(runtime, one, makeInputs('gaussian', one, 'f16', 5), { dtype: 'f16', causal: true, scale: 1 })
  const attend = await splitAttention(runtime, { ...one, scale: 1 })
  const bitmap = frame.memory([8])
  const plan: PlanData = { kind: 'block', ...one, blockQ: 64, blockK: 64, bitmap }
  expect(() => attend(frame.frame, plan)).toThrow(expect.objectContaining({ code: 'UNSUPPORTED', where: 'plan' }))
})
