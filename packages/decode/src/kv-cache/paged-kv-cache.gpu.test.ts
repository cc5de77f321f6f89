import {
  createRuntime,
  type DType,
  type PagedKVCache,
  type Runtime,
  recordDispatches,
  type Tensor,
} from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { createRandom, trackBuffers, uploadTensor } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { pageBounds, quantizedKeys } from './metadata.js'
import { pagePool } from './page-pool.js'
import { type OwnPool, pagedKVCache } from './paged-kv-cache.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const [heads, headDim, pageSize] = [2, 8, 16]
const shape = { kvHeads: heads, headDim, dtype: 'f32', pageSize, metadata: [pageBounds, quantizedKeys(4)] } as const

function make(options: Partial<OwnPool> = {}): Promise<PagedKVCache> {
  return pagedKVCache(runtime, { ...shape, batch: 2, capacity: 100, ...options })
}

/** Element d of key `token` of a sequence: multiples of 1/8, exact in both dtypes. */
function element(stream: number, token: number, head: number, d: number): number {
  return createRandom(stream * 65536 + token * 64 + head * 32 + d).integer(-16, 16) / 8
}

/** Tokens first … first + n of a stream for each sequence, [streams, heads, n, headDim]; values are keys of the stream + 100. */
function tokens(
  streams: readonly number[],
  first: number,
  n: number,
  dtype: DType = 'f32',
  layout: 'BHLD' | 'BLHD' = 'BHLD',
) {
  const values = (shift: number) => {
    const all: number[] = []
    for (const stream of streams)
      for (let h = 0; h < heads; h++)
        for (let t = first; t < first + n; t++)
          for (let d = 0; d < headDim; d++) all.push(element(stream + shift, t, h, d))
    return uploadTensor(runtime, dtype, [streams.length, heads, n, headDim], all, layout)
  }
  return { k: values(0), v: values(100) }
}

function append(
  cache: PagedKVCache,
  { k, v }: { k: Tensor & Disposable; v: Tensor & Disposable },
  sequences?: readonly number[],
): void {
  const encoder = runtime.device.createCommandEncoder()
  cache.append(encoder, k, v, sequences && { sequences })
  runtime.device.queue.submit([encoder.finish()])
  k[Symbol.dispose]()
  v[Symbol.dispose]()
}

function fork(cache: PagedKVCache, sequences?: readonly number[]): PagedKVCache {
  const encoder = runtime.device.createCommandEncoder()
  const made = cache.fork(encoder, sequences)
  runtime.device.queue.submit([encoder.finish()])
  return made
}

/** Everything that the GPU knows of a sequence, in the order of its tokens: the table is read back, not believed. */
async function contents(cache: PagedKVCache, sequence: number) {
  const { k, v, pages, dispatches } = cache.view()
  const encoder = runtime.device.createCommandEncoder()
  recordDispatches(runtime.device, encoder, dispatches)
  runtime.device.queue.submit([encoder.finish()])
  const table = new Uint32Array(await runtime.readBytes(pages.table))
  const row = sequence * (pages.width + 1)
  const length = table[row]!
  const [keys, values] = [await runtime.read(k), await runtime.read(v)]
  const words = async (name: string, array: number) =>
    new Uint32Array(await runtime.readBytes(pages.metadata[name]![array]!))
  const bounds = new Float32Array((await words('bounds', 0)).buffer)
  const [packed, scales] = [await words('keys-4-bit', 0), await words('keys-4-bit', 1)]
  const out = { length, k: [] as number[], v: [] as number[], bounds: [] as number[], packed: [] as number[] }
  for (let h = 0; h < heads; h++) {
    for (let n = 0; n * pageSize < length; n++) {
      const page = h * pages.poolPages + table[row + 1 + n]!
      // A sequence's last page may have wider bounds than its keys, unless it is full.
      if ((n + 1) * pageSize <= length)
        out.bounds.push(...bounds.subarray(page * 2 * headDim, (page + 1) * 2 * headDim))
      for (let i = 0; i < Math.min(pageSize, length - n * pageSize); i++) {
        const at = (page * pageSize + i) * headDim
        out.k.push(...keys.subarray(at, at + headDim))
        out.v.push(...values.subarray(at, at + headDim))
        out.packed.push(packed[page * pageSize + i]!, scales[page * pageSize + i]!)
      }
    }
  }
  return out
}

/** What a stream's first tokens are, from the definition. */
function expected(stream: number, length: number) {
  const of = (shift: number) => {
    const all: number[] = []
    for (let h = 0; h < heads; h++)
      for (let t = 0; t < length; t++) for (let d = 0; d < headDim; d++) all.push(element(stream + shift, t, h, d))
    return all
  }
  return { length, k: of(0), v: of(100) }
}

function expectedBounds(stream: number, length: number): number[] {
  const all: number[] = []
  for (let h = 0; h < heads; h++) {
    for (let n = 0; (n + 1) * pageSize <= length; n++) {
      const channel = (d: number) => Array.from({ length: pageSize }, (_, i) => element(stream, n * pageSize + i, h, d))
      const channels = Array.from({ length: headDim }, (_, d) => channel(d))
      all.push(...channels.map((x) => Math.min(...x)), ...channels.map((x) => Math.max(...x)))
    }
  }
  return all
}

describe('paged KV cache', () => {
  test.each([1, 15, 16, 17, 100])(
    '%i tokens at once are those tokens one by one, with all that is kept of them',
    async (n) => {
      using bulk = await make()
      using single = await make()
      append(bulk, tokens([1, 2], 0, n))
      for (let t = 0; t < n; t++) append(single, tokens([1, 2], t, 1))
      for (const sequence of [0, 1]) {
        const held = await contents(bulk, sequence)
        expect(held).toMatchObject(expected(sequence + 1, n))
        expect(held.bounds).toEqual(expectedBounds(sequence + 1, n))
        expect(await contents(single, sequence)).toEqual(held)
      }
    },
  )

  test('half precision, strided: what is appended is what it holds', async () => {
    using cache = await pagedKVCache(runtime, { ...shape, dtype: 'f16', batch: 2, capacity: 40, metadata: [] })
    append(cache, tokens([1, 2], 0, 21, 'f16', 'BLHD'))
    append(cache, tokens([1, 2], 21, 1, 'f16', 'BLHD'))
    const { k, pages } = cache.view()
    const [keys, table] = [await runtime.read(k), new Uint32Array(await runtime.readBytes(pages.table))]
    const at = (table[pages.width + 1 + 2]! * pageSize + 5) * headDim // token 21 of sequence 1, KV head 0
    expect(Array.from(keys.subarray(at, at + headDim))).toEqual(
      Array.from({ length: headDim }, (_, d) => element(2, 21, 0, d)),
    )
  })

  test.each([0, 1, 16, 20, 33])(
    'cut to %i tokens and appended to, it is one that never held the rest',
    async (length) => {
      using pool = await pagePool(runtime, { ...shape, pages: 8 })
      using cache = await pagedKVCache(runtime, { pool, batch: 2, capacity: 100 })
      append(cache, tokens([1, 2], 0, 40))
      expect(pool.freePages).toBe(2)
      cache.truncate(length)
      expect(pool.freePages).toBe(8 - 2 * Math.ceil(length / pageSize))
      expect((await contents(cache, 1)).length).toBe(length)
      const rest = 50 - length
      append(cache, tokens([7, 8], length, rest))
      using fresh = await make()
      if (length > 0) append(fresh, tokens([1, 2], 0, length))
      append(fresh, tokens([7, 8], length, rest))
      for (const sequence of [0, 1]) expect(await contents(cache, sequence)).toEqual(await contents(fresh, sequence))
    },
  )

  test('forks share their past, and neither sees what the other appends', async () => {
    using pool = await pagePool(runtime, { ...shape, pages: 8 })
    using cache = await pagedKVCache(runtime, { pool, capacity: 64 })
    append(cache, tokens([1], 0, 20))
    using beams = fork(cache, [0, 0])
    expect([beams.lengths, pool.freePages]).toEqual([[20, 20], 6])
    append(beams, tokens([5, 6], 20, 1))
    // Of three owners of the half-full page two have made a copy.
    expect(pool.freePages).toBe(4)
    append(cache, tokens([1], 20, 5))
    expect(pool.freePages).toBe(4)
    expect(await contents(cache, 0)).toMatchObject(expected(1, 25))
    for (const beam of [0, 1]) {
      const held = await contents(beams, beam)
      expect(held.k.slice(0, 20 * headDim)).toEqual(expected(1, 20).k.slice(0, 20 * headDim))
      expect(held.k.slice(20 * headDim, 21 * headDim)).toEqual(
        Array.from({ length: headDim }, (_, d) => element(5 + beam, 20, 0, d)),
      )
    }
    append(beams, tokens([5, 6], 21, 11))
    const own = await contents(beams, 0)
    using fresh = await pagedKVCache(runtime, { ...shape, capacity: 64 })
    append(fresh, tokens([1], 0, 20))
    append(fresh, tokens([5], 20, 12))
    expect(own).toEqual(await contents(fresh, 0))
    // Cut back into a page that is shared again: the other's tokens stay.
    using other = fork(beams, [1])
    beams.truncate(18)
    append(beams, tokens([9, 9], 18, 1))
    expect((await contents(other, 0)).k.slice(18 * headDim, 20 * headDim)).toEqual(
      expected(1, 20).k.slice(18 * headDim, 20 * headDim),
    )
  })

  test('sequences of a batch differ in length, and each is attended to as if alone', async () => {
    const lengths = [1, 15, 16, 17, 100]
    const config = { queryHeads: 4, kvHeads: heads, headDim, dtype: 'f32', causal: true } as const
    using cache = await make({ batch: lengths.length })
    using paged = await runtime.use(dense({ kernel: 'split' }), { ...config, pageSize })
    using plain = await runtime.use(dense({ kernel: 'split' }), config)
    for (const [n, length] of lengths.entries()) append(cache, tokens([n], 0, length), [n])
    expect([cache.lengths, cache.length]).toEqual([lengths, 100])
    const query = Float32Array.from({ length: lengths.length * 4 * headDim }, (_, i) => element(50, i, 0, 0))
    using q = runtime.tensor('f32', [lengths.length, 4, 1, headDim], query)
    const { out } = await paged.run({ q, cache })
    const all = await runtime.read(out)
    for (const [n, length] of lengths.entries()) {
      const { k, v } = tokens([n], 0, length)
      using own = runtime.tensor('f32', [1, 4, 1, headDim], query.slice(n * 4 * headDim, (n + 1) * 4 * headDim))
      const alone = await runtime.read((await plain.run({ q: own, k, v })).out)
      const part = all.subarray(n * 4 * headDim, (n + 1) * 4 * headDim)
      // The same sums, of a dozen numbers below 4 in size, perhaps split in other places.
      for (const [i, x] of part.entries()) expect(Math.abs(x - alone[i]!)).toBeLessThan(1e-5)
    }
  })

  test('a pool without room refuses, and everything stays as it was; what is freed is taken again', async () => {
    using pool = await pagePool(runtime, { ...shape, pages: 3 })
    using a = await pagedKVCache(runtime, { pool, capacity: 64 })
    using b = await pagedKVCache(runtime, { pool, capacity: 64 })
    append(a, tokens([1], 0, 20))
    const encoder = runtime.device.createCommandEncoder()
    const { k, v } = tokens([2], 0, 17)
    const refused = expect.objectContaining({ code: 'LIMIT_EXCEEDED', where: 'pages' })
    expect(() => b.append(encoder, k, v)).toThrow(refused)
    expect([b.length, pool.freePages]).toEqual([0, 1])
    // A copy of a shared page needs one, too: two sequences need two, and the first takes none where there is one.
    using both = fork(a, [0, 0])
    const each = tokens([3, 4], 20, 1)
    expect(() => both.append(encoder, each.k, each.v)).toThrow(refused)
    expect(pool.freePages).toBe(1)
    both.dispose()
    using forked = fork(a)
    append(b, tokens([2], 0, 16))
    const one = tokens([3], 20, 1)
    expect(() => forked.append(encoder, one.k, one.v)).toThrow(refused)
    expect(await contents(forked, 0)).toMatchObject(expected(1, 20))
    b.dispose()
    b.dispose()
    expect(pool.freePages).toBe(1)
    append(forked, one)
    expect(await contents(a, 0)).toMatchObject(expected(1, 20))
  })

  test('10 000 tokens take no more memory than it began with', async () => {
    using cache = await pagedKVCache(runtime, { ...shape, capacity: 10_000 })
    const { k, v } = tokens([1], 0, 1)
    const step = (count: number) => {
      const encoder = runtime.device.createCommandEncoder()
      for (let n = 0; n < count; n++) cache.append(encoder, k, v)
      runtime.device.queue.submit([encoder.finish()])
    }
    step(1)
    using buffers = trackBuffers(runtime.device)
    for (let n = 0; n < 10; n++) step(n < 9 ? 1000 : 999)
    await runtime.idle()
    expect([cache.length, buffers.created, buffers.maps]).toEqual([10_000, 0, 0])
    k.dispose()
    v.dispose()
  })

  describe('refuses, and stays as it was', () => {
    test.each<[string, (k: Tensor) => [Tensor, Tensor, (readonly number[])?], string]>([
      [
        'more tokens than a sequence may have',
        (k) => [{ ...k, shape: [2, heads, 101, headDim] }, k],
        'BUFFER_TOO_SMALL',
      ],
      ['another batch', (k) => [{ ...k, shape: [1, heads, 40, headDim] }, k], 'INVALID_SHAPE'],
      ['another dtype', (k) => [{ ...k, dtype: 'f16' }, k], 'INVALID_DTYPE'],
      ['a view that is not aligned', (k) => [{ ...k, shape: [2, heads, 1, headDim], offset: 1 }, k], 'INVALID_VIEW'],
      ['other tokens for values', (k) => [k, { ...k, shape: [2, heads, 1, headDim] }], 'INVALID_SHAPE'],
      ['a sequence that it does not have', (k) => [k, k, [0, 2]], 'INVALID_ARGUMENT'],
      ['a sequence twice', (k) => [k, k, [1, 1]], 'INVALID_ARGUMENT'],
      ['no sequence', (k) => [k, k, []], 'INVALID_ARGUMENT'],
      ['more tokens than fit', (k) => [k, k], 'LIMIT_EXCEEDED'],
    ])('%s', async (_, views, code) => {
      using cache = await make({ capacity: 50 })
      append(cache, tokens([1, 2], 0, 20))
      const { k } = tokens([1, 2], 0, 40)
      const [newK, newV, sequences] = views(k)
      const encoder = runtime.device.createCommandEncoder()
      expect(() => cache.append(encoder, newK, newV, sequences && { sequences })).toThrow(
        expect.objectContaining({ code }),
      )
      expect(cache.lengths).toEqual([20, 20])
    })

    test('a length or a sequence that it does not have, and everything once disposed', async () => {
      const cache = await make()
      append(cache, tokens([1, 2], 0, 4))
      const code = (expectedCode: string) => expect.objectContaining({ code: expectedCode })
      for (const length of [5, -1, 1.5]) expect(() => cache.truncate(length)).toThrow(code('INVALID_ARGUMENT'))
      expect(() => cache.truncate(1, 2)).toThrow(code('INVALID_ARGUMENT'))
      const encoder = runtime.device.createCommandEncoder()
      expect(() => cache.fork(encoder, [3])).toThrow(code('INVALID_ARGUMENT'))
      cache.dispose()
      for (const use of [() => cache.view(), () => cache.truncate(0), () => cache.fork(encoder)])
        expect(use).toThrow(code('DISPOSED'))
    })

    test.each([
      [{ capacity: 0 }, 'INVALID_ARGUMENT'],
      [{ pageSize: 8 }, 'INVALID_ARGUMENT'],
      [{ headDim: 12 }, 'INVALID_ARGUMENT'],
      [{ dtype: 'f64' as DType }, 'INVALID_DTYPE'],
      [{ metadata: [pageBounds, pageBounds] }, 'INVALID_ARGUMENT'],
      [{ capacity: 2 ** 26 }, 'LIMIT_EXCEEDED'],
    ])('a cache with %o', async (change, code) => {
      await expect(make(change)).rejects.toMatchObject({ code })
    })
  })
})
