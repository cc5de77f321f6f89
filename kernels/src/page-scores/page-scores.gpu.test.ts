import { createRuntime, type DType, floatsToHalves, type Runtime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { listedScores } from '../listed-scores/listed-scores.js'
import { pageBounds } from '../page-bounds/page-bounds.js'
import { pageBoundsReference } from '../page-bounds/reference.js'
import { testMemory } from '../shared/test-memory.js'
import { pageAt, testPageFrame, testPages } from '../shared/test-pages.js'
import { pageScores } from './page-scores.js'
import { pageScoreReference } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const lengths = [1, 33, 100]

/** Keys of a pool in which three sequences lie, small integers so that every sum is exact. */
function setup(dtype: DType, headDim: number, kvHeads: number, queryHeads: number, pageSize: number) {
  const memory = testMemory(runtime)
  const random = createRandom(headDim + queryHeads)
  const pages = testPages(memory, lengths, pageSize)
  const integers = (count: number) => Float32Array.from({ length: count }, () => random.integer(-4, 4))
  const keys = integers(kvHeads * pages.poolPages * pageSize * headDim)
  const query = integers(lengths.length * queryHeads * headDim)
  const k = runtime.tensor(dtype, [1, kvHeads, pages.poolPages * pageSize, headDim], keys)
  const q = runtime.tensor(dtype, [lengths.length, queryHeads, 1, headDim], query)
  const key = (h: number, b: number, token: number, d: number) => {
    const page = h * pages.poolPages + pageAt(pages, b, Math.floor(token / pageSize))
    return keys[(page * pageSize + (token % pageSize)) * headDim + d]!
  }
  const config = { dtype, headDim, queryHeads, kvHeads, causal: true, scale: 0.5 }
  const frame = testPageFrame(memory, { ...config, batch: lengths.length, keyLength: 100, q, k })
  const queryOf = (b: number, h: number) =>
    query.subarray((b * queryHeads + h) * headDim, (b * queryHeads + h + 1) * headDim)
  return { memory, pages, k, q, key, queryOf, config, frame }
}

describe('bounds and scores of pages', () => {
  test.each<[DType, number, number, number, number]>([
    ['f32', 40, 2, 6, 16],
    ['f16', 128, 1, 1, 32],
    ['f16', 80, 2, 20, 64],
    ['f32', 256, 1, 4, 16],
  ])('%s, head_dim %i, heads %i and %i, pages of %i', async (dtype, headDim, kvHeads, queryHeads, pageSize) => {
    const { memory, pages, k, q, key, queryOf, config, frame } = setup(dtype, headDim, kvHeads, queryHeads, pageSize)
    const group = queryHeads / kvHeads
    const bytes = dtype === 'f16' ? 2 : 4
    const bounds = memory.scratch(kvHeads * pages.poolPages * 2 * headDim * bytes)
    const [bound, together, separate, listed] = await Promise.all([
      pageBounds(runtime, config),
      pageScores(runtime, config, 'sum'),
      pageScores(runtime, config, 'separate'),
      listedScores(runtime, config, 'pages'),
    ])
    const sums = together(frame, pages, bounds)
    const heads = separate(frame, pages, bounds)
    // Every page but the first, in lists with room for one more.
    const counts = lengths.map((length) => Math.ceil(length / pageSize) - 1)
    const capacity = Math.max(...counts) + 1
    const rows = lengths.length * kvHeads
    const list = (row: number) =>
      Array.from({ length: capacity }, (_, i) => (i < counts[Math.floor(row / kvHeads)]! ? (i + 1) * pageSize : -1))
    const lists = {
      heads: kvHeads,
      capacity,
      counts: memory.words(Int32Array.from({ length: rows }, (_, row) => counts[Math.floor(row / kvHeads)]!)),
      indices: memory.words(Int32Array.from(Array.from({ length: rows }, (_, row) => list(row)).flat())),
    }
    const scores = memory.scratch(lengths.length * queryHeads * capacity * pageSize * 4)
    await memory.submit([
      bound(pages, k, bounds, { sequences: lengths.length }),
      sums.dispatch,
      heads.dispatch,
      listed(frame, pages, lists, scores),
    ])
    const read = async (slice: Parameters<typeof memory.read>[0]) => new Float32Array((await memory.read(slice)).buffer)
    const [summed, each, exact] = [await read(sums.rows.scores), await read(heads.rows.scores), await read(scores)]
    for (const [b, length] of lengths.entries()) {
      for (let h = 0; h < queryHeads; h++) {
        const kv = Math.floor(h / group)
        for (let n = 0; n * pageSize < length; n++) {
          const held = Math.min(pageSize, length - n * pageSize)
          const reference = pageBoundsReference((row, d) => key(kv, b, n * pageSize + row, d), held, headDim)
          expect(each[(b * queryHeads + h) * heads.rows.stride + n]).toBe(pageScoreReference(queryOf(b, h), reference))
          if (h % group > 0) continue
          let sum = 0
          for (let i = 0; i < group; i++) sum += pageScoreReference(queryOf(b, h + i), reference)
          expect(summed[(b * kvHeads + kv) * sums.rows.stride + n]).toBe(sum)
        }
        for (let i = 0; i < counts[b]! * pageSize; i++) {
          const token = pageSize + i
          const product = queryOf(b, h).reduce((sum, x, d) => sum + x * (token < length ? key(kv, b, token, d) : 0), 0)
          const actual = exact[(b * queryHeads + h) * capacity * pageSize + i]!
          if (token < length) expect(actual).toBe(0.5 * product)
          else expect(actual).toBeLessThan(-3e38)
        }
      }
    }
    k.dispose()
    q.dispose()
    memory[Symbol.dispose]()
  })

  test.each<DType>(['f32', 'f16'])('%s bounds with NaN, infinity and the ends of the range', async (dtype) => {
    using memory = testMemory(runtime)
    const pages = testPages(memory, [20], 16)
    const special = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 65504, -65504, -0, 2 ** -24, 1]
    const keys = new Float32Array(2 * 16 * 8)
    // Channel d of one key of each page has the d-th of them; other keys have 0.
    for (const page of [0, 1])
      for (const [d, x] of special.entries()) keys[(pageAt(pages, 0, page) * 16 + 2) * 8 + d] = x
    const k = runtime.tensor(dtype, [1, 1, 32, 8], dtype === 'f16' ? floatsToHalves(keys) : keys)
    const out = runtime.tensor(dtype, [2, 2, 8])
    const slice = { buffer: out.buffer, offsetBytes: 0, sizeBytes: out.buffer.size }
    await memory.submit([(await pageBounds(runtime, { dtype, headDim: 8 }))(pages, k, slice, { sequences: 1 })])
    const bounds = await runtime.read(out)
    for (const page of [0, 1]) {
      const at = pageAt(pages, 0, page) * 16
      const [least, most] = [Array.from(bounds.subarray(at, at + 8)), Array.from(bounds.subarray(at + 8, at + 16))]
      expect(least.map((x) => x + 0)).toEqual([Number.NaN, 0, Number.NEGATIVE_INFINITY, 0, -65504, 0, 0, 0])
      expect(most.map((x) => x + 0)).toEqual([Number.NaN, Number.POSITIVE_INFINITY, 0, 65504, 0, 0, 2 ** -24, 1])
    }
    k.dispose()
    out.dispose()
  })
})
