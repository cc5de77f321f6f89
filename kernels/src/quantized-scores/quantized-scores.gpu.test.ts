import { createRuntime, type DType, type Runtime } from '@sparse-attention/core'
import { createRandom, type Layout, roundTo, uploadTensor } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type KeyBits, quantizedKeyBytes } from '../quantize-keys/layout.js'
import { quantizeKeys } from '../quantize-keys/quantize-keys.js'
import { unpackKeys } from '../quantize-keys/reference.js'
import { largestDifference } from '../shared/test-frame.js'
import { testMemory } from '../shared/test-memory.js'
import { quantizedScores } from './quantized-scores.js'
import { quantizedScoresReference } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

interface Case {
  readonly bits: KeyBits
  readonly dtype: DType
  readonly headDim: number
  readonly queryHeads: number
  readonly kvHeads: number
  readonly queryLength: number
  readonly keyLength: number
  readonly layout: Layout
  /** Rows that share a read of the keys. */
  readonly rows?: number
  readonly queries?: 'exact' | 'int8'
}

const batch = 2
const scale = 0.25 // a power of two, so that integers stay exact

interface Values {
  readonly query: () => number
  readonly key: (i: number) => number
}

/** Packs keys into a cache that is a little larger and scores them; returns scores and what float64 makes of them. */
async function run(given: Case, values: Values, on: Runtime = runtime) {
  const { bits, dtype, headDim, queryHeads, kvHeads, queryLength, keyLength, layout, rows, queries } = given
  using memory = testMemory(on)
  const capacity = keyLength + 3
  const qValues = roundTo(
    dtype,
    Float64Array.from({ length: batch * queryHeads * queryLength * headDim }, () => values.query()),
  )
  const kValues = roundTo(
    dtype,
    Float64Array.from({ length: batch * kvHeads * keyLength * headDim }, (_, i) => values.key(i)),
  )
  using q = uploadTensor(on, dtype, [batch, queryHeads, queryLength, headDim], qValues, layout)
  using k = uploadTensor(on, dtype, [batch, kvHeads, keyLength, headDim], kValues, layout)
  const bytes = quantizedKeyBytes({ bits, headDim }, batch * kvHeads, capacity)
  const keys = { packed: memory.words(bytes.packed / 4), scales: memory.words(bytes.scales / 4), capacity }
  const scores = memory.words(batch * queryHeads * queryLength * keyLength)
  const [pack, score] = await Promise.all([
    quantizeKeys(on, { dtype, headDim }, bits),
    quantizedScores(on, { dtype, headDim, queryHeads, kvHeads }, bits, rows, queries),
  ])
  const dispatches = score(q, keys, keyLength, scale, scores)
  await memory.submit([...pack(k, keys), ...dispatches])

  const [words, pairs] = [await memory.read(keys.packed), await memory.read(keys.scales)]
  const perToken = (headDim * bits) / 32
  /** Σ|k̂| of the token that each score is about. */
  const keySizes: number[] = []
  const expected = Array.from({ length: batch * queryHeads }, (_, h) => {
    const segment = Math.floor((h * kvHeads) / queryHeads)
    const unpacked = Array.from({ length: keyLength }, (_, i) => {
      const slot = segment * capacity + i
      return unpackKeys(words.subarray(slot * perToken, (slot + 1) * perToken), pairs[slot]!, bits)
    })
    const sizes = unpacked.map((key) => key.reduce((sum, value) => sum + Math.abs(value), 0))
    for (let i = 0; i < queryLength; i++) keySizes.push(...sizes)
    const first = h * queryLength * headDim
    return quantizedScoresReference(qValues.slice(first, first + queryLength * headDim), unpacked, scale)
  }).flat()
  const actual = new Float32Array((await memory.read(scores)).buffer)
  expect(actual.length).toBe(expected.length)
  const steps = Array.from({ length: batch * queryHeads * queryLength }, (_, row) => {
    const values = Array.from(qValues.slice(row * headDim, (row + 1) * headDim), Math.abs)
    return Math.max(...values) / 127
  })
  return { actual, expected, dispatches, keySizes, steps }
}

const random = createRandom(13)
const gaussian: Values = { query: () => random.gaussian(), key: () => random.gaussian() + 1 }

describe('quantized scores', () => {
  test.each<Case>([
    { bits: 4, dtype: 'f16', headDim: 64, queryHeads: 8, kvHeads: 2, queryLength: 1, keyLength: 130, layout: 'BLHD' },
    { bits: 8, dtype: 'f32', headDim: 24, queryHeads: 2, kvHeads: 2, queryLength: 1, keyLength: 64, layout: 'BHLD' },
    {
      bits: 4,
      dtype: 'f32',
      headDim: 80,
      queryHeads: 6,
      kvHeads: 2,
      queryLength: 3,
      keyLength: 65,
      layout: 'BLHD',
      rows: 8,
    },
    {
      bits: 4,
      dtype: 'f16',
      headDim: 24,
      queryHeads: 1,
      kvHeads: 1,
      queryLength: 2,
      keyLength: 1,
      layout: 'BLHD',
      rows: 2,
    },
    { bits: 8, dtype: 'f16', headDim: 64, queryHeads: 11, kvHeads: 1, queryLength: 1, keyLength: 70, layout: 'BLHD' },
  ])(
    '$bits bits, $dtype, $headDim, $queryHeads heads over $kvHeads, $queryLength × $keyLength, $layout',
    async (given) => {
      const { actual, expected } = await run(given, gaussian)
      // Sums of at most 80 products of size about 4 and up to 15 · 4, scaled by 1/4, in float32: 160 roundings of 2e-6.
      expect(largestDifference(actual, expected)).toBeLessThan(3e-4)
    },
  )

  test.each([4, 8] as const)('integers are exact, %i bits', async (bits) => {
    const levels = 2 ** bits - 1
    const key = (i: number) => (i % 24 === 3 ? 0 : i % 24 === 20 ? levels : random.integer(0, levels))
    const shape = { headDim: 24, queryHeads: 4, kvHeads: 2, queryLength: 2, keyLength: 67 } as const
    const { actual, expected } = await run(
      { bits, dtype: 'f32', ...shape, layout: 'BHLD', rows: 4 },
      {
        query: () => random.integer(-8, 8),
        key,
      },
    )
    expect([...actual]).toEqual(expected.map((score) => score + 0)) // + 0: −0 is 0
  })

  test('fewer rows at once change nothing but rounding; cut into several dispatches, the same bits', async () => {
    const shape = {
      bits: 4,
      dtype: 'f16',
      headDim: 24,
      queryHeads: 6,
      kvHeads: 2,
      queryLength: 1,
      keyLength: 130,
    } as const
    const given: Case = { ...shape, layout: 'BLHD' }
    const q = Array.from({ length: batch * 6 * 24 }, () => random.gaussian())
    const k = Array.from({ length: batch * 2 * 130 * 24 }, () => random.gaussian())
    const values = (): Values => {
      let at = 0
      return { query: () => q[at++]!, key: (i) => k[i]! }
    }
    const { actual, dispatches } = await run(given, values())
    expect(dispatches.length).toBe(1)
    for (const rows of [1, 2]) {
      const other = await run({ ...given, rows }, values())
      // Another kernel may fuse multiplications and additions elsewhere: sums of 24 terms of size about 10, in float32.
      expect(largestDifference(other.actual, actual)).toBeLessThan(1e-4)
    }
    using cutting = await createRuntime({
      device: runtime.device,
      work: { operationsPerDispatch: 2 * 64 * 4 * 24 * 5 },
    })
    const cut = await run(given, values(), cutting)
    expect(cut.dispatches.length).toBe(3) // 2 · 2 KV heads of 3 tiles, five a dispatch
    expect(cut.actual).toEqual(actual)
  })

  describe.each([4, 8] as const)('with queries in 8 bits, keys in %i', (bits) => {
    /** Without the built-in: its sums are written out. */
    const plain = () => createRuntime({ device: runtime.device, gpu: { wgslLanguageFeatures: new Set() } as never })

    test('integers up to 127 are exact, with the built-in and without', async () => {
      const levels = 2 ** bits - 1
      const key = (i: number) => (i % 24 === 3 ? 0 : i % 24 === 20 ? levels : random.integer(0, levels))
      let at = 0
      const query = () => (at++ % 24 === 7 ? -127 : random.integer(-127, 127)) // each row's step is 1
      const shape = { headDim: 24, queryHeads: 4, kvHeads: 2, queryLength: 2, keyLength: 67 } as const
      const given: Case = { bits, dtype: 'f32', ...shape, layout: 'BHLD', rows: 4, queries: 'int8' }
      using without = await plain()
      expect(without.wgslFeatures.size).toBe(0)
      for (const on of [runtime, without]) {
        const { actual, expected } = await run(given, { query, key }, on)
        expect([...actual]).toEqual(expected.map((score) => score + 0)) // + 0: −0 is 0
      }
    })

    test('a score moves by at most half a step of the query times the key, the same bits without the built-in', async () => {
      const shape = { headDim: 80, queryHeads: 6, kvHeads: 2, queryLength: 1, keyLength: 70 } as const
      const given: Case = { bits, dtype: 'f16', ...shape, layout: 'BLHD', queries: 'int8' }
      const values = (): Values => {
        const same = createRandom(29)
        return { query: () => same.gaussian(), key: () => same.gaussian() + 1 }
      }
      const { actual, expected, keySizes, steps } = await run(given, values())
      let moved = 0
      for (const [i, score] of actual.entries()) {
        const difference = Math.abs(score - expected[i]!)
        // 1.01 and 1e-4 for f32: the rounding of q / step at a tie, and of the sums as above.
        expect(difference).toBeLessThan(1.01 * scale * (steps[Math.floor(i / 70)]! / 2) * keySizes[i]! + 1e-4)
        moved = Math.max(moved, difference)
      }
      expect(moved).toBeGreaterThan(1e-3) // it is not the exact form
      using without = await plain()
      expect((await run(given, values(), without)).actual).toEqual(actual)
    })
  })

  test('costs the bytes of packed keys, their scales, the queries and the scores', async () => {
    const shape = { headDim: 64, queryHeads: 4, kvHeads: 2, queryLength: 1, keyLength: 64 } as const
    for (const bits of [4, 8] as const) {
      const given: Case = { bits, dtype: 'f32', ...shape, layout: 'BHLD' }
      const { dispatches } = await run(given, { query: () => 1, key: () => 1 })
      const f32Keys = batch * 2 * 64 * 64 * 4
      const rest = batch * (2 * 64 * 4 + 4 * 64 * 4 + 4 * 64 * 4) // scales, queries, scores
      expect(dispatches[0]!.cost.bytes).toBe(f32Keys / (bits === 4 ? 8 : 4) + rest)
      expect(dispatches[0]!.cost.operations).toBe(2 * batch * 4 * 64 * 64)
    }
  })

  test('refuses heads that do not share evenly, and more tokens than there is room for', async () => {
    const config = { dtype: 'f32', headDim: 8, queryHeads: 4, kvHeads: 2 } as const
    await expect(quantizedScores(runtime, { ...config, kvHeads: 3 }, 4)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    })
    using memory = testMemory(runtime)
    using q = runtime.tensor('f32', [1, 4, 1, 8])
    using other = runtime.tensor('f32', [1, 2, 1, 8])
    const keys = { packed: memory.words(2 * 5), scales: memory.words(2 * 5), capacity: 5 }
    const score = await quantizedScores(runtime, config, 4)
    const scores = memory.words(20)
    expect(() => score(q, keys, 5, 1, scores)).not.toThrow()
    expect(() => score(q, keys, 6, 1, scores)).toThrow(expect.objectContaining({ where: 'keyLength' }))
    expect(() => score(other, keys, 5, 1, scores)).toThrow(expect.objectContaining({ code: 'INVALID_SHAPE' }))
    expect(() => score(q, keys, 5, 1, memory.words(19))).toThrow(expect.objectContaining({ where: 'scores' }))
  })
})
