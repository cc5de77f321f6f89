import { createRuntime, type Runtime } from '@sparse-attention/core'
import { createRandom, guardedLse, guardedTensor, roundTo, uploadTensor } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { permuteRows } from '../permute-rows/permute-rows.js'
import { firstDifference, randomPermutation, testMemory } from '../shared/test-memory.js'
import { scatterRowsReference } from './reference.js'
import { scatterRows } from './scatter-rows.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const random = createRandom(14)
const batch = 2

describe('scatter rows', () => {
  test.each([
    { dtype: 'f32', headDim: 24, length: 70, heads: 3, orders: 3, layout: 'BLHD' },
    { dtype: 'f16', headDim: 80, length: 129, heads: 4, orders: 2, layout: 'BHLD' },
    { dtype: 'f16', headDim: 8, length: 1, heads: 1, orders: 1, layout: 'BLHD' },
  ] as const)('$dtype, $length rows of $headDim, $heads heads of $orders orders, $layout', async (given) => {
    const { dtype, headDim, length, heads, orders, layout } = given
    const elements = batch * heads * length * headDim
    const x = Float32Array.from(roundTo(dtype, Float64Array.from({ length: elements }, random.gaussian)))
    x[5] = Number.NaN
    const lse = Float32Array.from({ length: batch * heads * length }, random.gaussian)
    lse[0] = Number.NEGATIVE_INFINITY
    const places = Array.from({ length: batch * orders }, () => randomPermutation(random, length))
    using memory = testMemory(runtime)
    const shape = [batch, heads, length, headDim] as const
    using from = uploadTensor(runtime, dtype, shape, x, layout)
    using fromLse = runtime.tensor('f32', [batch, heads, length], lse)
    using out = guardedTensor(runtime, dtype, shape, layout)
    using outLse = guardedLse(runtime, [batch, heads, length])
    using again = runtime.tensor(dtype, shape)
    const order = { order: memory.words(Int32Array.from(places.flat())), heads: orders }
    const [scatter, permute] = await Promise.all([
      scatterRows(runtime, { dtype, headDim }),
      permuteRows(runtime, { dtype, headDim }),
    ])
    await memory.submit([
      ...scatter({ out: from, lse: fromLse }, order, { out, lse: outLse }),
      ...permute(out, order, again),
    ])
    const [rows, numbers] = [await runtime.read(out), await runtime.read(outLse)]
    for (let head = 0; head < batch * heads; head++) {
      const place = places[Math.floor(head / (heads / orders))]!
      const part = (values: Float32Array, width: number) =>
        values.slice(head * length * width, (head + 1) * length * width)
      const expected = scatterRowsReference(part(x, headDim), headDim, place, new Float32Array(length * headDim))
      expect(part(rows, headDim)).toEqual(expected)
      expect(part(numbers, 1)).toEqual(scatterRowsReference(part(lse, 1), 1, place, new Float32Array(length)))
    }
    expect((await out.damaged()) + (await outLse.damaged())).toBe(0)
    // The inverse of a gather with the same order.
    expect(await runtime.read(again)).toEqual(x)
  })

  test('leaves out places that are no row, and refuses shapes that do not go together', async () => {
    using memory = testMemory(runtime)
    const scatter = await scatterRows(runtime, { dtype: 'f32', headDim: 8 })
    using x = runtime.tensor(
      'f32',
      [1, 2, 3, 8],
      Float32Array.from({ length: 48 }, (_, i) => i),
    )
    using lse = runtime.tensor('f32', [1, 2, 3], Float32Array.of(1, 2, 3, 4, 5, 6))
    using out = runtime.tensor('f32', [1, 2, 3, 8])
    using outLse = runtime.tensor('f32', [1, 2, 3])
    const order = memory.words(Int32Array.of(2, -1, 7))
    const from = { out: x, lse }
    await memory.submit(scatter(from, { order, heads: 1 }, { out, lse: outLse }))
    expect([...(await runtime.read(outLse))]).toEqual([0, 0, 1, 0, 0, 4])
    const expected = [0, 24].flatMap((first) => Array.from({ length: 24 }, (_, i) => (i < 16 ? 0 : first + i - 16)))
    expect(firstDifference(await runtime.read(out), expected)).toBe(-1)
    using longer = runtime.tensor('f32', [1, 2, 4, 8])
    expect(() => scatter(from, { order, heads: 1 }, { out: longer, lse: outLse })).toThrow(
      expect.objectContaining({ code: 'INVALID_SHAPE', where: 'to.out' }),
    )
    expect(() => scatter(from, { order, heads: 2 }, { out, lse: outLse })).toThrow(
      expect.objectContaining({ code: 'BUFFER_TOO_SMALL', where: 'order' }),
    )
  })
})
