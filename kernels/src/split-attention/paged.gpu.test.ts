import { createRuntime, type DType, lastVisibleKey, type PlanData, type Runtime } from '@sparse-attention/core'
import { createRandom, expectAttentionClose, type Inputs, makeInputs, type Random } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type TestFrame, testFrame } from '../shared/test-frame.js'
import { randomPermutation } from '../shared/test-memory.js'
import { splitAttention } from './split-attention.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

interface Case {
  readonly pageSize: number
  readonly lengths: readonly number[]
  readonly dtype: DType
  readonly causal: boolean
  readonly queryHeads: number
  readonly kvHeads: number
  readonly queryLength: number
  readonly headDim: number
  /** Of a stripe plan: pages, tokens or both, for each KV head or query head. */
  readonly lists?: { readonly of: readonly ('pages' | 'tokens')[]; readonly heads: number }
}

/** Inputs of each sequence, as if it were alone. */
function sequences(c: Case): Inputs[] {
  return c.lengths.map((keyLength, b) => makeInputs('gaussian', { ...c, batch: 1, keyLength }, c.dtype, 11 + b))
}

/** Pools in which everything that no sequence holds is NaN, and a page table whose unused ids lie outside of them. */
function pooled(c: Case, inputs: readonly Inputs[], random: Random) {
  const used = c.lengths.map((length) => Math.ceil(length / c.pageSize))
  const width = Math.max(...used) + 1
  const pages = used.reduce((sum, count) => sum + count, 3)
  const ids = randomPermutation(random, pages)
  const table = new Uint32Array(c.lengths.length * (1 + width)).fill(0xfffffff0)
  const rows = pages * c.pageSize
  const [k, v] = [0, 1].map(() => new Float64Array(c.kvHeads * rows * c.headDim).fill(Number.NaN))
  c.lengths.forEach((length, b) => {
    const at = b * (1 + width)
    table[at] = length
    for (let page = 0; page < used[b]!; page++) table[at + 1 + page] = ids.pop()!
    for (let key = 0; key < length; key++) {
      const row = table[at + 1 + Math.floor(key / c.pageSize)]! * c.pageSize + (key % c.pageSize)
      for (let h = 0; h < c.kvHeads; h++) {
        const from = (h * length + key) * c.headDim
        k!.set(inputs[b]!.k.subarray(from, from + c.headDim), (h * rows + row) * c.headDim)
        v!.set(inputs[b]!.v.subarray(from, from + c.headDim), (h * rows + row) * c.headDim)
      }
    }
  })
  return { k: k!, v: v!, rows, width, table }
}

/** Random lists, and the mask of each sequence that they make. */
function randomPlan(c: Case, keyLength: number, random: Random, frame: TestFrame) {
  const { of, heads } = c.lists!
  const batch = c.lengths.length
  const lists = of.map((kind) => (kind === 'pages' ? c.pageSize : 1)).map((width) => ({ width, capacity: keyLength }))
  const rows = batch * heads
  const counts = new Int32Array(lists.length * rows)
  const indices = new Int32Array(lists.length * rows * keyLength).fill(-1)
  const masks = c.lengths.map((length) => new Uint8Array(c.queryHeads * c.queryLength * length))
  const keep = (list: number, b: number, head: number, key: number) => {
    const row = list * rows + b * heads + head
    indices[row * keyLength + counts[row]!++] = key
    const length = c.lengths[b]!
    for (let h = (head * c.queryHeads) / heads; h < ((head + 1) * c.queryHeads) / heads; h++) {
      for (let i = 0; i < c.queryLength; i++) {
        const end = Math.min(key + lists[list]!.width, lastVisibleKey({ ...c, keyLength: length }, i) + 1)
        const at = (h * c.queryLength + i) * length
        masks[b]!.fill(1, at + key, at + Math.max(key, end))
      }
    }
  }
  c.lengths.forEach((length, b) => {
    for (let head = 0; head < heads; head++) {
      for (let page = 0; page < length; page += c.pageSize) {
        const kinds = of.filter(() => random.uniform() < 0.6)
        if (kinds[0] === 'pages') keep(of.indexOf('pages'), b, head, page)
        else if (kinds[0] === 'tokens') {
          for (let key = page; key < Math.min(page + c.pageSize, length); key++)
            if (random.uniform() < 0.3) keep(of.indexOf('tokens'), b, head, key)
        }
      }
    }
  })
  const upload = (values: Int32Array) => frame.memory([values.length], new Float32Array(values.buffer))
  const plan: PlanData = {
    kind: 'stripe',
    ...c,
    batch,
    keyLength,
    blockQ: 64,
    heads,
    lists,
    counts: upload(counts),
    indices: upload(indices),
  }
  return { plan, masks }
}

const one: Case = {
  pageSize: 16,
  lengths: [100, 0, 1, 15, 16, 17],
  dtype: 'f16',
  causal: true,
  queryHeads: 8,
  kvHeads: 2,
  queryLength: 1,
  headDim: 64,
}

describe('keys and values in pages', () => {
  test.each<Partial<Case>>([
    {},
    { pageSize: 32, lengths: [40, 300, 2], queryLength: 3, queryHeads: 16, dtype: 'f32', headDim: 40 }, // some rows see nothing
    { lists: { of: ['pages'], heads: 2 }, lengths: [130, 0, 77], queryHeads: 16 },
    { lists: { of: ['tokens'], heads: 4 }, pageSize: 64, lengths: [200, 64], queryHeads: 4, kvHeads: 4, causal: false },
    { lists: { of: ['pages', 'tokens'], heads: 8 }, lengths: [90, 200], queryLength: 2 },
  ])('%o', async (given) => {
    const c: Case = { ...one, ...given }
    const random = createRandom(3)
    const inputs = sequences(c)
    const { k, v, rows, width, table } = pooled(c, inputs, random)
    const q = Float64Array.from(inputs.flatMap((input) => [...input.q]))
    const scale = 1 / Math.sqrt(c.headDim)
    const batch = c.lengths.length
    const keyLength = Math.max(...c.lengths)
    using frame = testFrame(runtime, { ...c, batch, keyLength }, { q, k, v }, { ...c, scale, poolRows: rows })
    const plan = c.lists && randomPlan(c, keyLength, random, frame)
    const attend = await splitAttention(runtime, { ...c, scale }, c)
    const pages = { table: frame.memory([table.length], new Float32Array(table.buffer)), width }
    await frame.submit(attend(frame.frame, plan?.plan ?? { kind: 'dense' }, pages))
    const [out, lse] = [await runtime.read(frame.frame.out), await runtime.read(frame.frame.lse)]
    const headRows = c.queryHeads * c.queryLength
    c.lengths.forEach((length, b) => {
      const actual = {
        out: out.slice(b * headRows * c.headDim, (b + 1) * headRows * c.headDim),
        lse: lse.slice(b * headRows, (b + 1) * headRows),
      }
      const mask = plan?.masks[b] ?? (c.causal ? 'causal' : 'none')
      const name = `${JSON.stringify(given)}, sequence ${b}`
      expectAttentionClose(actual, { ...c, ...inputs[b]!, batch: 1, keyLength: length, scale, mask, name })
    })
  })
})

test('what does not fit is refused', async () => {
  const config = { ...one, scale: 1 }
  await expect(splitAttention(runtime, config, { pageSize: 24 })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    where: 'pageSize',
  })
  const attend = await splitAttention(runtime, config, one)
  const shape = { ...one, batch: 2, keyLength: 24 }
  using frame = testFrame(runtime, shape, makeInputs('gaussian', shape, 'f16', 1), { ...config, poolRows: 48 })
  const table = frame.memory([8])
  const call = (over: object, width = 3) =>
    expect(() => attend({ ...frame.frame, ...over }, { kind: 'dense' }, { table, width }))
  call({ k: { ...frame.frame.k, shape: [1, 2, 40, 64] } }).toThrow(expect.objectContaining({ code: 'INVALID_SHAPE' }))
  call({ v: { ...frame.frame.v, shape: [2, 2, 48, 64] } }).toThrow(expect.objectContaining({ code: 'INVALID_SHAPE' }))
  call({ keyLength: 49 }).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', where: 'pages' }))
  call({}, 4).toThrow(expect.objectContaining({ code: 'BUFFER_TOO_SMALL', where: 'pages.table' }))
})
