import {
  createRuntime,
  type DType,
  permute,
  type Runtime,
  SparseAttentionError,
  type Tensor,
} from '@sparse-attention/core'
import { createRandom, trackBuffers, uploadTensor } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { dense } from '../dense/method.js'
import { contiguousKVCache } from './contiguous-kv-cache.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const config = { batch: 2, kvHeads: 3, headDim: 24, capacity: 50 } as const
/** Tokens of each append: a prompt, then some at once and one by one. */
const steps = [17, 1, 1, 5, 1]
const total = 25

/** Multiples of 1/8, exact in both dtypes. Values of [batch, heads, length, headDim]. */
function numbers(seed: number, length: number): Float32Array {
  const random = createRandom(seed)
  const count = config.batch * config.kvHeads * length * config.headDim
  return Float32Array.from({ length: count }, () => random.integer(-16, 16) / 8)
}

/** Tokens [first, first + count) of contiguous [B, H, length, D] values. */
function slice(values: Float32Array, length: number, first: number, count: number): Float32Array {
  const heads = config.batch * config.kvHeads
  const out = new Float32Array(heads * count * config.headDim)
  for (let head = 0; head < heads; head++) {
    const start = (head * length + first) * config.headDim
    out.set(values.subarray(start, start + count * config.headDim), head * count * config.headDim)
  }
  return out
}

async function append(cache: Awaited<ReturnType<typeof contiguousKVCache>>, k: Tensor, v: Tensor): Promise<void> {
  const encoder = runtime.device.createCommandEncoder()
  cache.append(encoder, k, v)
  runtime.device.queue.submit([encoder.finish()])
  await runtime.idle()
}

describe('contiguous KV cache', () => {
  test.each<[DType, 'BHLD' | 'BLHD']>([
    ['f32', 'BHLD'],
    ['f16', 'BLHD'],
  ])(
    '%s %s: what is appended is what it holds, and truncating and resetting keep the memory',
    async (dtype, layout) => {
      using cache = await contiguousKVCache(runtime, { ...config, dtype })
      const [k, v] = [numbers(1, total), numbers(2, total)]
      const shape = (n: number) => [config.batch, config.kvHeads, n, config.headDim] as const
      let held = 0
      for (const n of steps) {
        using newK = uploadTensor(runtime, dtype, shape(n), slice(k, total, held, n), layout)
        using newV = uploadTensor(runtime, dtype, shape(n), slice(v, total, held, n), layout)
        await append(cache, newK, newV)
        held += n
        expect(cache.length).toBe(held)
      }
      expect(await runtime.read(cache.keys())).toEqual(k)
      expect(await runtime.read(cache.values())).toEqual(v)

      cache.truncate(18)
      expect(await runtime.read(cache.keys())).toEqual(slice(k, total, 0, 18))
      using again = uploadTensor(runtime, dtype, shape(7), slice(k, total, 18, 7), layout)
      await append(cache, again, again)
      expect(await runtime.read(cache.keys())).toEqual(k)
      expect(slice(await runtime.read(cache.values()), total, 18, 7)).toEqual(slice(k, total, 18, 7))
      cache.reset()
      expect([cache.length, cache.capacity]).toEqual([0, 50])
    },
  )

  test('attention over the cache is attention over its tokens', async () => {
    using cache = await contiguousKVCache(runtime, { ...config, dtype: 'f32' })
    using attention = await runtime.use(dense(), { queryHeads: 6, kvHeads: 3, headDim: 24, dtype: 'f32', causal: true })
    using k = uploadTensor(runtime, 'f32', [2, 3, total, 24], numbers(1, total), 'BHLD')
    using v = uploadTensor(runtime, 'f32', [2, 3, total, 24], numbers(2, total), 'BHLD')
    using q = uploadTensor(runtime, 'f32', [2, 6, 2, 24], numbers(3, 4), 'BHLD')
    await append(cache, k, v)
    const expected = await attention.run({ q, k, v })
    const actual = await attention.run({ q, k: cache.keys(), v: cache.values() })
    // The same kernel over the same numbers.
    expect(await runtime.read(actual.out)).toEqual(await runtime.read(expected.out))
  })

  test('neither tokens nor their number make it allocate', async () => {
    using cache = await contiguousKVCache(runtime, { ...config, dtype: 'f32' })
    using k = uploadTensor(runtime, 'f32', [2, 3, 1, 24], numbers(1, 1), 'BHLD')
    const fill = async () => {
      for (let i = 0; i < config.capacity; i++) await append(cache, k, k)
      cache.reset()
    }
    // The first time makes a uniform block for each place in the cache.
    await fill()
    using buffers = trackBuffers(runtime.device)
    await fill()
    expect([buffers.created, buffers.maps]).toEqual([0, 0])
  })

  describe('refuses, and stays as it was', () => {
    const cases: [string, (k: Tensor) => [Tensor, Tensor], string][] = [
      ['more tokens than fit', (k) => [k, k], 'LIMIT_EXCEEDED'],
      ['other heads', (k) => [permute(k, [0, 2, 1, 3]), k], 'INVALID_SHAPE'],
      ['another dtype', (k) => [{ ...k, dtype: 'f16' }, k], 'INVALID_DTYPE'],
      ['a view that is not aligned', (k) => [{ ...k, shape: [2, 3, 1, 24], offset: 1 }, k], 'INVALID_VIEW'],
      ['other tokens for values', (k) => [k, { ...k, shape: [2, 3, 1, 24] }], 'INVALID_SHAPE'],
      ['more than the buffer holds', (k) => [{ ...k, offset: 96 }, k], 'BUFFER_TOO_SMALL'],
    ]
    test.each(cases)('%s', async (_, views, code) => {
      using cache = await contiguousKVCache(runtime, { ...config, capacity: 7, dtype: 'f32' })
      using k = uploadTensor(runtime, 'f32', [2, 3, 4, 24], numbers(1, 4), 'BHLD')
      await append(cache, k, k)
      const encoder = runtime.device.createCommandEncoder()
      expect(() => cache.append(encoder, ...views(k))).toThrow(expect.objectContaining({ code }))
      expect(cache.length).toBe(4)
    })

    test('its own tokens, a length that it does not have, and everything once disposed', async () => {
      const cache = await contiguousKVCache(runtime, { ...config, dtype: 'f32' })
      expect(() => cache.keys()).toThrow(expect.objectContaining({ code: 'INVALID_SHAPE' }))
      using k = uploadTensor(runtime, 'f32', [2, 3, 4, 24], numbers(1, 4), 'BHLD')
      await append(cache, k, k)
      const encoder = runtime.device.createCommandEncoder()
      const code = (expected: string) => expect.objectContaining({ code: expected })
      expect(() => cache.append(encoder, cache.keys(), k)).toThrow(code('INVALID_ARGUMENT'))
      for (const length of [5, -1, 1.5, Number.NaN]) {
        expect(() => cache.truncate(length)).toThrow(code('INVALID_ARGUMENT'))
      }
      cache.dispose()
      cache.dispose()
      expect(() => cache.append(encoder, k, k)).toThrow(code('DISPOSED'))
      expect(() => cache.keys()).toThrow(code('DISPOSED'))
    })

    test.each([
      [{ capacity: 0 }, 'INVALID_ARGUMENT', 'capacity is 0'],
      [{ kvHeads: 1.5 }, 'INVALID_ARGUMENT', 'kvHeads is 1.5'],
      [{ batch: -1 }, 'INVALID_ARGUMENT', 'batch is -1'],
      [{ headDim: 12 }, 'INVALID_ARGUMENT', 'headDim is 12'],
      [{ dtype: 'f64' as DType }, 'INVALID_DTYPE', 'f64'],
      [{ capacity: 2 ** 30 }, 'LIMIT_EXCEEDED', 'one binding may have'],
    ])('a cache with %o', async (change, code, message) => {
      const error: unknown = await contiguousKVCache(runtime, { ...config, dtype: 'f32', ...change }).catch((e) => e)
      expect(SparseAttentionError.is(error) && [error.code, error.message]).toEqual([
        code,
        expect.stringContaining(message),
      ])
    })
  })
})
