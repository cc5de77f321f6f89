import { createRuntime, type DType, halfToFloat, type Runtime } from '@sparse-attention/core'
import { createRandom, type Layout, roundTo, uploadTensor } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { largestDifference } from '../shared/test-frame.js'
import { testMemory } from '../shared/test-memory.js'
import { type KeyBits, quantizedKeyBytes } from './layout.js'
import { quantizeKeys } from './quantize-keys.js'
import { quantizeKeysReference, unpackIntegers, unpackKeys } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

interface Case {
  readonly bits: KeyBits
  readonly dtype: DType
  readonly headDim: number
  readonly length: number
  readonly layout: Layout
}

const [batch, kvHeads] = [2, 3]
const guard = 0x7fc0dead

/** Packs keys, in calls of `steps` tokens; returns each token's key, words and pair, and the words behind the last. */
async function pack({ bits, dtype, headDim, length, layout }: Case, value: (i: number) => number, steps = [length]) {
  using memory = testMemory(runtime)
  const capacity = length + 2
  const segments = batch * kvHeads
  const values = roundTo(
    dtype,
    Float64Array.from({ length: segments * length * headDim }, (_, i) => value(i)),
  )
  const bytes = quantizedKeyBytes({ bits, headDim }, segments, capacity)
  const packed = memory.words(new Uint32Array(bytes.packed / 4).fill(guard))
  const scales = memory.words(new Uint32Array(bytes.scales / 4).fill(guard))
  using k = uploadTensor(runtime, dtype, [batch, kvHeads, length, headDim], values, layout)
  const record = await quantizeKeys(runtime, { dtype, headDim }, bits)
  let first = 0
  for (const rows of steps) {
    const part = { ...k, shape: [batch, kvHeads, rows, headDim], offset: k.offset + first * k.strides[2]! }
    await memory.submit(record(part, { packed, scales, capacity }, first))
    first += rows
  }
  const [words, pairs] = [await memory.read(packed), await memory.read(scales)]
  const perToken = (headDim * bits) / 32
  const slot = (s: number, i: number) => {
    const at = s * capacity + i
    return { words: [...words.slice(at * perToken, (at + 1) * perToken)], pair: pairs[at]! }
  }
  const each = Array.from({ length: segments * length }, (_, t) => ({
    key: [...values.slice(t * headDim, (t + 1) * headDim)],
    ...slot(Math.floor(t / length), t % length),
  }))
  const behind = Array.from({ length: segments }, (_, s) => [slot(s, length), slot(s, length + 1)]).flat(2)
  return { each, behind: behind.flatMap(({ words: rest, pair }) => [...rest, pair]) }
}

/** Half a scale, and what rounding scale and zero to halves may add, in either direction: 2^-10 of their sizes. */
function bound(key: readonly number[], scale: number, bits: KeyBits): number {
  const low = Math.abs(Math.min(...key))
  const flushed = low < 2 ** -14 ? low : 0 // a half below the normal ones may be taken for 0
  return (scale / 2) * (1 + 1e-5) + (low + 2 ** bits * scale) * 2 ** -10 + flushed // 1e-5: division and rounding in f32
}

const random = createRandom(12)

const cases: Case[] = [
  { bits: 4, dtype: 'f32', headDim: 64, length: 37, layout: 'BLHD' },
  { bits: 4, dtype: 'f16', headDim: 80, length: 13, layout: 'BLHD' },
  { bits: 8, dtype: 'f16', headDim: 24, length: 30, layout: 'BHLD' },
  { bits: 8, dtype: 'f32', headDim: 256, length: 3, layout: 'BLHD' },
  { bits: 4, dtype: 'f16', headDim: 8, length: 65, layout: 'BHLD' },
]

describe('quantized keys', () => {
  test.each(cases)(
    '$bits bits, $dtype, head_dim $headDim, $length tokens, $layout: within half a scale',
    async (given) => {
      const { bits } = given
      const sizes = [1, 30, 1e-3, 1e-6]
      const { each, behind } = await pack(
        given,
        (i) => sizes[Math.floor(i / given.headDim) % 4]! * (random.gaussian() + 2),
      )
      expect(behind.every((word) => word === guard)).toBe(true)
      for (const { key, words, pair } of each) {
        const scale = halfToFloat(pair & 0xffff)
        const ideal = Math.max((Math.max(...key) - Math.min(...key)) / (2 ** bits - 1), 2 ** -14)
        expect(Math.abs(scale / ideal - 1)).toBeLessThan(2 ** -11 + 1e-6) // rounded to the nearest half; division in f32
        const unpacked = unpackKeys(words, pair, bits)
        const most = bound(key, scale, bits)
        expect(largestDifference(unpacked, key)).toBeLessThanOrEqual(most)
      }
    },
  )

  test.each([4, 8] as const)('integers from 0 to the last level are packed as they are, %i bits', async (bits) => {
    const levels = 2 ** bits - 1
    const given: Case = { bits, dtype: 'f32', headDim: 64, length: 9, layout: 'BHLD' }
    const value = (i: number) => (i % 64 === 5 ? 0 : i % 64 === 63 ? levels : random.integer(0, levels))
    const { each } = await pack(given, value)
    for (const { key, words, pair } of each) {
      expect(pair).toBe(0x3c00) // scale 1, zero 0
      expect(unpackIntegers(words, bits)).toEqual(key)
      expect(quantizeKeysReference(key, 1, 0, bits)).toEqual(key)
      expect(words[0]! & levels).toBe(key[0]) // the first element in the lowest bits
    }
  })

  test('equal, zero and extreme keys', async () => {
    const given: Case = { bits: 4, dtype: 'f16', headDim: 8, length: 4, layout: 'BHLD' }
    const tokens = [Array(8).fill(0.75), Array(8).fill(0), [65504, -65504, 0, 0, 0, 0, 0, 0], Array(8).fill(-65504)]
    const { each } = await pack(given, (i) => tokens[Math.floor(i / 8) % 4]![i % 8])
    each.forEach(({ key, words, pair }, t) => {
      const unpacked = unpackKeys(words, pair, 4)
      if (t % 4 === 2) {
        const most = bound(key, halfToFloat(pair & 0xffff), 4)
        expect(largestDifference(unpacked, key)).toBeLessThanOrEqual(most)
      } else {
        expect(unpacked).toEqual(key)
      }
    })
  })

  test('tokens added one by one are those packed at once, bit for bit', async () => {
    const given: Case = { bits: 4, dtype: 'f16', headDim: 24, length: 7, layout: 'BLHD' }
    const values = Array.from({ length: batch * kvHeads * 7 * 24 }, () => random.gaussian())
    const once = await pack(given, (i) => values[i]!)
    expect(await pack(given, (i) => values[i]!, [1, 1, 3, 2])).toEqual(once)
  })

  test('costs an eighth or a quarter of f32 keys, and 4 bytes a token', async () => {
    using k = runtime.tensor('f32', [1, 2, 10, 64])
    using memory = testMemory(runtime)
    for (const bits of [4, 8] as const) {
      const bytes = quantizedKeyBytes({ bits, headDim: 64 }, 2, 10)
      const keys = { packed: memory.words(bytes.packed / 4), scales: memory.words(bytes.scales / 4), capacity: 10 }
      const [dispatch] = (await quantizeKeys(runtime, { dtype: 'f32', headDim: 64 }, bits))(k, keys)
      const f32Bytes = 2 * 10 * 64 * 4
      expect(bytes).toEqual({ packed: f32Bytes / (bits === 4 ? 8 : 4), scales: 2 * 10 * 4 })
      expect(dispatch!.cost.bytes).toBe(f32Bytes + bytes.packed + bytes.scales)
    }
  })

  test('refuses other widths, and tokens behind the capacity', async () => {
    await expect(quantizeKeys(runtime, { dtype: 'f32', headDim: 64 }, 2 as 4)).rejects.toMatchObject({ where: 'bits' })
    using memory = testMemory(runtime)
    using k = runtime.tensor('f32', [1, 1, 4, 64])
    const record = await quantizeKeys(runtime, { dtype: 'f32', headDim: 64 }, 4)
    const keys = { packed: memory.words(5 * 8), scales: memory.words(5), capacity: 5 }
    expect(() => record(k, keys, 1)).not.toThrow()
    expect(() => record(k, keys, 2)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', where: 'firstToken' }))
    const larger = { ...keys, capacity: 6 }
    expect(() => record(k, larger)).toThrow(expect.objectContaining({ code: 'BUFFER_TOO_SMALL', where: 'keys.packed' }))
  })
})
