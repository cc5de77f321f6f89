import {
  type ConfiguredMethod,
  createRuntime,
  defineMethod,
  type HostStripePlan,
  type MethodOptions,
  type PagedKVCache,
  type Plan,
  type Runtime,
} from '@sparse-attention/core'
import { contiguousKVCache, dense, selectPages } from '@sparse-attention/kernels'
import { createRandom, trackBuffers } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { pageBounds, quantizedKeys } from './kv-cache/metadata.js'
import { pagedKVCache } from './kv-cache/paged-kv-cache.js'
import { quest } from './quest/method.js'
import { decodeAttention, pageSource, selectionPlan, topPPruner } from './selectors/index.js'
import { sinkWindow } from './sink-window/method.js'
import { massShortfall } from './twilight/mass-shortfall.js'
import { twilight } from './twilight/method.js'

/* What methods promise over a paged cache. One configuration: kernels are compiled once. */

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const [queryHeads, kvHeads, headDim, pageSize] = [4, 2, 32, 16]
const config = { queryHeads, kvHeads, headDim, dtype: 'f32', causal: true } as const
const scale = 1 / Math.sqrt(headDim)
const random = createRandom(11)

/** Keys of neighbours have something in common, and logits reach a few units. */
function sequence(length: number) {
  const gaussian = (count: number, size: number) => Float32Array.from({ length: count }, () => size * random.gaussian())
  const base = gaussian(kvHeads * Math.ceil(length / 8) * headDim, 1.2)
  const k = gaussian(kvHeads * length * headDim, 0.5).map((x, i) => {
    const [d, t, h] = [i % headDim, Math.floor(i / headDim) % length, Math.floor(i / headDim / length)]
    return x + base[(h * Math.ceil(length / 8) + (t >> 3)) * headDim + d]!
  })
  return { length, k, v: gaussian(kvHeads * length * headDim, 1), q: gaussian(queryHeads * headDim, 1.5) }
}
type Sequence = ReturnType<typeof sequence>

const lengths = [1, 15, 16, 17, 150, 333]
const sequences = lengths.map(sequence)

async function filled(batch: readonly Sequence[]): Promise<PagedKVCache> {
  const metadata = [pageBounds, quantizedKeys(4), quantizedKeys(8)]
  const shape = { kvHeads, headDim, dtype: 'f32', pageSize } as const
  const cache = await pagedKVCache(runtime, { ...shape, batch: batch.length, capacity: 400, metadata })
  for (const [n, { length, k, v }] of batch.entries()) {
    using keys = runtime.tensor('f32', [1, kvHeads, length, headDim], k)
    using values = runtime.tensor('f32', [1, kvHeads, length, headDim], v)
    const encoder = runtime.device.createCommandEncoder()
    cache.append(encoder, keys, values, { sequences: [n] })
    runtime.device.queue.submit([encoder.finish()])
  }
  return cache
}

const queries = (batch: readonly Sequence[]) =>
  runtime.tensor('f32', [batch.length, queryHeads, 1, headDim], Float32Array.from(batch.flatMap(({ q }) => [...q])))

/** The tokens that query head h of sequence b attends to. */
async function tokensOf(plan: Plan, b: number, h: number, length: number): Promise<number[]> {
  if (plan.path === 'dense') return Array.from({ length }, (_, t) => t)
  const host = (await plan.read()) as HostStripePlan
  const rows = host.batch * host.heads
  const row = b * host.heads + Math.floor((h * host.heads) / queryHeads)
  const tokens: number[] = []
  let list = 0
  for (const [n, { width, capacity }] of host.lists.entries()) {
    for (let i = 0; i < host.counts[n * rows + row]!; i++)
      for (let t = 0; t < width; t++) tokens.push(host.indices[list + row * capacity + i]! + t)
    list += rows * capacity
  }
  return tokens.filter((t) => t < length).sort((x, y) => x - y)
}

/** Attention of one head over some tokens, and their share of all mass, in float64. */
function exact({ length, k, v, q }: Sequence, h: number, tokens: readonly number[]) {
  const kv = Math.floor((h * kvHeads) / queryHeads)
  const at = (t: number) => (kv * length + t) * headDim
  const weight = (t: number) => {
    let sum = 0
    for (let d = 0; d < headDim; d++) sum += q[h * headDim + d]! * k[at(t) + d]!
    return Math.exp(scale * sum)
  }
  const all = Array.from({ length }, (_, t) => weight(t))
  const kept = tokens.reduce((sum, t) => sum + all[t]!, 0)
  const out = Array.from(
    { length: headDim },
    (_, d) => tokens.reduce((sum, t) => sum + all[t]! * v[at(t) + d]!, 0) / kept,
  )
  return { out, mass: kept / all.reduce((sum, w) => sum + w, 0) }
}

type Made = ConfiguredMethod<MethodOptions>

const methods = {
  quest: () => quest({ tokenBudget: 64 }),
  'quest, heads apart': () => quest({ tokenBudget: 48, heads: 'separate' as const }),
  twilight: () => twilight({ tokenBudget: 96, topP: 0.8 }),
  'twilight in 8 bits': () => twilight({ tokenBudget: 96, topP: 0.8, estimate: 8 }),
  'sink-window': () => sinkWindow({ sink: 4, localWindow: 30 }),
}

describe('over a paged cache', () => {
  test.each(Object.entries(methods))(
    '%s attends in each sequence of a batch to what it would alone, and right',
    async (_, make) => {
      using cache = await filled(sequences)
      using q = queries(sequences)
      using paged = await runtime.use(make() as unknown as Made, { ...config, pageSize })
      using plain = await runtime.use(make() as unknown as Made, config)
      using buffers = trackBuffers(runtime.device)
      const { out, plan } = await paged.run({ q, cache })
      expect(buffers.maps).toBe(0)
      const values = await runtime.read(out)
      for (const [b, one] of sequences.entries()) {
        using k = runtime.tensor('f32', [1, kvHeads, one.length, headDim], one.k)
        using v = runtime.tensor('f32', [1, kvHeads, one.length, headDim], one.v)
        using own = queries([one])
        const alone = await plain.run({ q: own, k, v })
        for (let h = 0; h < queryHeads; h++) {
          const tokens = await tokensOf(plan, b, h, one.length)
          expect(tokens, `sequence ${b}, head ${h}`).toEqual(await tokensOf(alone.plan, 0, h, one.length))
          const first = (b * queryHeads + h) * headDim
          // Sums of a few hundred products of size 1 in float32.
          exact(one, h, tokens).out.forEach((x, d) => {
            expect(Math.abs(values[first + d]! - x)).toBeLessThan(2e-5)
          })
        }
      }
    },
  )

  test.each([
    ['quest', quest({ tokenBudget: 333 })],
    ['twilight', twilight({ topP: 1, tokenBudget: 333 })],
    ['sink-window', sinkWindow({ localWindow: 333 })],
  ])('%s with room for everything is dense', async (_, method) => {
    using cache = await filled(sequences)
    using q = queries(sequences)
    using attention = await runtime.use(method as unknown as Made, { ...config, pageSize })
    using all = await runtime.use(dense({ kernel: 'split' }), { ...config, pageSize })
    const { out, plan } = await attention.run({ q, cache })
    expect(plan.path).toBe('dense')
    const [sparse, exactly] = [await runtime.read(out), await runtime.read((await all.run({ q, cache })).out)]
    // Not causal and causal are two kernels for one query, of the same sums.
    for (const [i, x] of sparse.entries()) expect(Math.abs(x - exactly[i]!)).toBeLessThan(1e-5)
  })

  test('the share p is reached on every head and step when the estimate is exact; in 4 bits the shortfall is known', async () => {
    using cache = await filled(sequences)
    using all = await runtime.use(dense({ kernel: 'split' }), { ...config, pageSize })
    const grown = sequences.map((one) => ({ ...one }))
    for (let step = 0; step < 2; step++) {
      for (const p of [0.5, 0.95]) {
        using q = queries(grown)
        const denseLse = await runtime.read((await all.run({ q, cache })).lse)
        for (const estimate of ['exact', 4] as const) {
          using attention = await runtime.use(twilight({ selector: 'every', estimate, topP: p }), {
            ...config,
            pageSize,
          })
          const { lse, plan } = await attention.run({ q, cache })
          const shortfall = massShortfall(await runtime.read(lse), denseLse, p)
          for (const [b, one] of grown.entries()) {
            for (let h = 0; h < queryHeads; h++) {
              const { mass } = exact(one, h, await tokensOf(plan, b, h, one.length))
              if (estimate === 'exact') expect(mass, `step ${step}, p ${p}, ${b}, ${h}`).toBeGreaterThanOrEqual(p)
              // From two LSE in float32, of size 10.
              expect(Math.abs(shortfall.mass[b * queryHeads + h]! - mass)).toBeLessThan(1e-5)
            }
          }
          const missing = Array.from(shortfall.mass, (mass) => Math.max(0, p - mass))
          expect(shortfall.worst).toBe(Math.max(...missing))
          // A step of 1/15 of a key's range moves a logit by a few tenths, most of which cancel.
          expect(shortfall.worst).toBeLessThan(0.1)
        }
      }
      const next = sequences.map(() => sequence(1))
      using k = runtime.tensor('f32', [6, kvHeads, 1, headDim], Float32Array.from(next.flatMap((one) => [...one.k])))
      using v = runtime.tensor('f32', [6, kvHeads, 1, headDim], Float32Array.from(next.flatMap((one) => [...one.v])))
      const encoder = runtime.device.createCommandEncoder()
      cache.append(encoder, k, v)
      runtime.device.queue.submit([encoder.finish()])
      for (const [b, one] of grown.entries()) grown[b] = appended(one, next[b]!)
    }
  })

  test('a selector from elsewhere, the pruner and the attention are put together to a method of their own', async () => {
    const [p, pagesKept] = [0.9, 8]
    const refused = expect.objectContaining({ code: 'UNSUPPORTED', where: 'selection' })
    /** The newest pages, whatever is in them: a page's score is its number. */
    const newest = defineMethod({
      ...sinkWindow.definition,
      id: 'newest-top-p',
      async create(runtime, compiled) {
        const [stride, rows] = [32, sequences.length * kvHeads]
        const table = { buffer: runtime.tensor('f32', [queryHeads], new Float32Array(queryHeads).fill(p)).buffer }
        const numbers = Float32Array.from({ length: rows * stride }, (_, i) => i % stride)
        const { buffer } = runtime.tensor('f32', [rows, stride], numbers)
        const scores = { buffer, offsetBytes: 0, sizeBytes: buffer.size }
        const topP = { ...table, offsetBytes: 0, sizeBytes: table.buffer.size }
        const [select, prune, source, attend] = await Promise.all([
          selectPages(runtime, 1),
          topPPruner(runtime, compiled, { estimate: 'exact', topP }),
          pageSource(runtime, compiled, pageSize, []),
          decodeAttention(runtime, compiled),
        ])
        return {
          plan(frame) {
            const { pages, dispatches } = source(frame)
            const { lists, dispatch } = select(frame, pages, { heads: kvHeads, stride, scores }, pagesKept)
            const selection = { lists, width: pageSize, dispatches: [...dispatches, dispatch] }
            const kept = prune(frame, pages, selection, 0)
            expect(() => prune(frame, pages, kept, 0)).toThrow(refused)
            const apart = { ...selection, lists: { ...lists, heads: queryHeads } }
            expect(() => prune(frame, pages, apart, 0)).toThrow(refused)
            return { plan: selectionPlan(frame, kept), dispatches: kept.dispatches }
          },
          attend,
          dispose: () => {
            buffer.destroy()
            table.buffer.destroy()
          },
        }
      },
    })
    using cache = await filled(sequences)
    using q = queries(sequences)
    using attention = await runtime.use(newest() as unknown as Made, { ...config, pageSize })
    const { plan } = await attention.run({ q, cache })
    for (const [b, one] of sequences.entries()) {
      const pages = Math.ceil(one.length / pageSize)
      const first = Math.max(0, pages - pagesKept + 1) * pageSize
      const chosen = Array.from({ length: one.length }, (_, t) => t).filter((t) => t < pageSize || t >= first)
      for (let h = 0; h < queryHeads; h++) {
        const tokens = await tokensOf(plan, b, h, one.length)
        expect(chosen).toEqual(expect.arrayContaining(tokens))
        const share = exact(one, h, tokens).mass / exact(one, h, chosen).mass
        expect(share, `sequence ${b}, head ${h}`).toBeGreaterThanOrEqual(p)
        if (one.length > 200) expect(tokens.length).toBeLessThan(chosen.length)
      }
    }
  })

  test('layers that are to stay dense do, where the layer is known', async () => {
    using cache = await filled(sequences)
    using q = queries(sequences)
    using attention = await runtime.use(quest({ tokenBudget: 64, denseLayers: 2 }), { ...config, pageSize })
    const path = async (context: object) => (await attention.run({ q, cache, context })).plan.path
    expect([await path({ layer: 0 }), await path({ layer: 1 }), await path({ layer: 2 }), await path({})]).toEqual([
      'dense',
      'dense',
      'sparse',
      'sparse',
    ])
  })

  test('a contiguous cache is read as the tensors that it holds', async () => {
    const one = sequences[4]!
    using cache = await contiguousKVCache(runtime, { kvHeads, headDim, dtype: 'f32', capacity: 200 })
    using k = runtime.tensor('f32', [1, kvHeads, one.length, headDim], one.k)
    using v = runtime.tensor('f32', [1, kvHeads, one.length, headDim], one.v)
    const encoder = runtime.device.createCommandEncoder()
    cache.append(encoder, k, v)
    runtime.device.queue.submit([encoder.finish()])
    using q = queries([one])
    using attention = await runtime.use(methods.twilight(), config)
    const [held, given] = [await attention.run({ q, cache }), await attention.run({ q, k, v })]
    expect(await runtime.read(held.out)).toEqual(await runtime.read(given.out))
  })

  test('steps of decoding leave memory as it was', async () => {
    const two = sequences.slice(3, 5)
    using cache = await filled(two)
    using q = queries(two)
    using out = runtime.tensor('f32', [2, queryHeads, 1, headDim])
    using attention = await runtime.use(methods.twilight(), { ...config, pageSize })
    using k = runtime.tensor('f32', [2, kvHeads, 1, headDim])
    const step = () => {
      const encoder = runtime.device.createCommandEncoder()
      cache.append(encoder, k, k)
      attention.encode(encoder, { q, cache, out })
      runtime.device.queue.submit([encoder.finish()])
      cache.truncate(150, 1)
      cache.truncate(17, 0)
    }
    step()
    step()
    using buffers = trackBuffers(runtime.device)
    for (let n = 0; n < 20; n++) step()
    await runtime.idle()
    expect([buffers.created, buffers.maps]).toEqual([0, 0])
  })
})

/** A sequence with one token more. */
function appended(one: Sequence, { k, v }: Sequence): Sequence {
  const length = one.length + 1
  const grow = (values: Float32Array, token: Float32Array) => {
    const grown = new Float32Array(kvHeads * length * headDim)
    for (let h = 0; h < kvHeads; h++) {
      grown.set(values.subarray(h * one.length * headDim, (h + 1) * one.length * headDim), h * length * headDim)
      grown.set(token.subarray(h * headDim, (h + 1) * headDim), (h * length + one.length) * headDim)
    }
    return grown
  }
  return { ...one, length, k: grow(one.k, k), v: grow(one.v, v) }
}

describe('what cannot be read is refused before any work', () => {
  const refused = (code: string, where: string) => expect.objectContaining({ code, where })

  test('by attentions: other heads, dtype, page size, runtime, an empty, disposed or missing cache', async () => {
    const attention = await runtime.use(methods['sink-window'](), { ...config, pageSize })
    const q = runtime.tensor('f32', [1, queryHeads, 1, headDim])
    const shape = { kvHeads, headDim, dtype: 'f32', capacity: 20 } as const
    const held = async (change: object, fill = true) => {
      const cache = await pagedKVCache(runtime, { ...shape, ...change })
      if (!fill) return cache
      const { kvHeads: heads, headDim: dim, dtype, batch } = cache.config
      using k = runtime.tensor(dtype, [batch, heads, 1, dim])
      cache.append(runtime.device.createCommandEncoder(), k, k)
      return cache
    }
    for (const [change, code, where] of [
      [{ kvHeads: 1 }, 'INVALID_SHAPE', 'cache'],
      [{ headDim: 64 }, 'INVALID_SHAPE', 'cache'],
      [{ dtype: 'f16' }, 'INVALID_DTYPE', 'cache'],
      [{ pageSize: 32 }, 'INVALID_ARGUMENT', 'cache'],
      [{ batch: 2 }, 'INVALID_SHAPE', 'q'],
    ] as const) {
      await expect(attention.run({ q, cache: await held(change) })).rejects.toEqual(refused(code, where))
    }
    await expect(attention.run({ q, cache: await held({}, false) })).rejects.toEqual(refused('INVALID_SHAPE', 'cache'))
    const disposed = await held({})
    disposed.dispose()
    await expect(attention.run({ q, cache: disposed })).rejects.toEqual(refused('DISPOSED', 'cache'))
    await expect(attention.run({ q, cache: undefined as unknown as PagedKVCache })).rejects.toEqual(
      refused('INVALID_ARGUMENT', 'cache'),
    )
    const cache = await held({})
    await expect(attention.run({ q, cache, k: q } as never)).rejects.toEqual(refused('INVALID_ARGUMENT', 'cache'))
    await expect(attention.run({ q, k: q, v: q })).rejects.toEqual(refused('INVALID_ARGUMENT', 'cache'))
    using other = await createRuntime({ device: runtime.device })
    using elsewhere = await other.use(methods['sink-window'](), { ...config, pageSize })
    await expect(elsewhere.run({ q, cache })).rejects.toEqual(refused('WRONG_RUNTIME', 'cache'))
    using plain = await runtime.use(methods['sink-window'](), config)
    await expect(plain.run({ q, cache })).rejects.toEqual(refused('UNSUPPORTED', 'cache'))
  })

  test('by methods: that cannot read pages, and those whose metadata the cache does not keep', async () => {
    const use = (method: object, pages: number) => runtime.use(method as Made, { ...config, pageSize: pages })
    const { method, options } = sinkWindow()
    const blind = { method: { ...method, capabilities: { ...method.capabilities, pages: false } }, options }
    await expect(use(blind, 16)).rejects.toEqual(refused('UNSUPPORTED', 'pageSize'))
    await expect(use(dense(), 16)).rejects.toEqual(refused('UNSUPPORTED', 'kernel'))
    await expect(use(quest(), 48)).rejects.toEqual(refused('INVALID_ARGUMENT', 'pageSize'))
    using cache = await pagedKVCache(runtime, { kvHeads, headDim, dtype: 'f32', capacity: 100, metadata: [pageBounds] })
    using k = runtime.tensor('f32', [1, kvHeads, 80, headDim])
    using q = runtime.tensor('f32', [1, queryHeads, 1, headDim])
    cache.append(runtime.device.createCommandEncoder(), k, k)
    using attention = await runtime.use(twilight(), { ...config, pageSize })
    await expect(attention.run({ q, cache })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('metadata: [pageBounds, quantizedKeys(4)]'),
    })
  })
})
