import { createRuntime, type DType, type Runtime, type Tensor } from '@sparse-attention/core'
import { createRandom, guardedTensor, type Layout, roundTo, uploadTensor } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { inversePermutation } from '../inverse-permutation/inverse-permutation.js'
import { firstDifference, randomPermutation, testMemory } from '../shared/test-memory.js'
import { permuteRows } from './permute-rows.js'
import { permuteRowsReference } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const random = createRandom(4)
const batch = 2

interface Case {
  readonly dtype: DType
  readonly headDim: number
  readonly length: number
  /** Heads of x, of the orders and of out. */
  readonly heads: readonly [x: number, order: number, out: number]
  readonly layout: Layout
}

const cases: Case[] = [
  { dtype: 'f32', headDim: 64, length: 70, heads: [3, 3, 3], layout: 'BLHD' },
  { dtype: 'f16', headDim: 80, length: 129, heads: [4, 2, 4], layout: 'BLHD' },
  { dtype: 'f16', headDim: 8, length: 1, heads: [1, 1, 1], layout: 'BHLD' },
  { dtype: 'f32', headDim: 24, length: 33, heads: [2, 6, 6], layout: 'BHLD' },
  { dtype: 'f32', headDim: 256, length: 21, heads: [2, 1, 2], layout: 'BLHD' },
]

const values = ({ dtype, headDim, length, heads }: Case) =>
  roundTo(dtype, Float64Array.from({ length: batch * heads[0] * length * headDim }, random.gaussian))

describe('permute rows', () => {
  test.each(cases)('$dtype, $length rows of $headDim, heads of x, order and out $heads, $layout', async (given) => {
    const { dtype, headDim, length, heads, layout } = given
    const x = values(given)
    const [xHeads, orderHeads, outHeads] = heads
    const rows = length + 3 // some rows twice, and places without one
    const row = () => random.integer(-1, length - 1)
    const orders = Array.from({ length: batch * orderHeads }, () => Array.from({ length: rows }, row))
    using memory = testMemory(runtime)
    using from = uploadTensor(runtime, dtype, [batch, xHeads, length, headDim], x, layout)
    using out = guardedTensor(runtime, dtype, [batch, outHeads, rows, headDim], layout)
    const record = await permuteRows(runtime, { dtype, headDim })
    const order = memory.words(Int32Array.from(orders.flat()))
    await memory.submit(record(from, { order, heads: orderHeads }, out))
    const shape = { length, headDim, xGroup: outHeads / xHeads, orderGroup: outHeads / orderHeads }
    const expected = [0, 1].flatMap((b) => {
      const entry = x.slice(b * xHeads * length * headDim, (b + 1) * xHeads * length * headDim)
      return permuteRowsReference(entry, shape, orders.slice(b * orderHeads, (b + 1) * orderHeads))
    })
    expect(firstDifference(await runtime.read(out), expected)).toBe(-1)
    expect(await out.damaged()).toBe(0)
  })

  test.each(cases)('and back: $dtype, $length rows of $headDim, $heads, $layout', async (given) => {
    const { dtype, headDim, length, layout } = given
    const [heads, orderHeads] = [given.heads[0], given.heads[0] % given.heads[1] === 0 ? given.heads[1] : 1]
    const x = values(given)
    const poison = [Number.NaN, Number.POSITIVE_INFINITY, -0, 2 ** -24, 65504] // rows are moved as bits
    poison.forEach((value, i) => {
      x[(i * 7) % x.length] = value
    })
    const segments = batch * orderHeads
    using memory = testMemory(runtime)
    const shape = [batch, heads, length, headDim] as const
    using from = uploadTensor(runtime, dtype, shape, x, layout)
    using sorted = guardedTensor(runtime, dtype, shape, layout)
    using back = runtime.tensor(dtype, shape)
    const [permute, invert] = await Promise.all([permuteRows(runtime, { dtype, headDim }), inversePermutation(runtime)])
    const orders = Array.from({ length: segments }, () => randomPermutation(random, length))
    const order = memory.words(Int32Array.from(orders.flat()))
    const inverse = memory.words(segments * length)
    await memory.submit([
      ...permute(from, { order, heads: orderHeads }, sorted),
      ...invert({ segments, rows: length, length }, order, inverse),
      ...permute(sorted, { order: inverse, heads: orderHeads }, back),
    ])
    using contiguous = runtime.tensor(dtype, shape, Float32Array.from(x))
    const bits = async (buffer: GPUBuffer) => memory.read({ buffer, offsetBytes: 0, sizeBytes: buffer.size })
    expect(firstDifference(await bits(back.buffer), await bits(contiguous.buffer))).toBe(-1)
  })

  test('refuses shapes that do not go together', async () => {
    using memory = testMemory(runtime)
    const permute = await permuteRows(runtime, { dtype: 'f32', headDim: 8 })
    using x = runtime.tensor('f32', [1, 2, 5, 8])
    using out = runtime.tensor('f32', [1, 4, 5, 8])
    using other = runtime.tensor('f32', [1, 3, 5, 8])
    const order = memory.words(20)
    const attempt =
      (heads: number, to: Tensor = out) =>
      () =>
        permute(x, { order, heads }, to)
    expect(attempt(4)).not.toThrow()
    expect(attempt(3)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', where: 'order.heads' }))
    expect(attempt(1, other)).toThrow(expect.objectContaining({ code: 'INVALID_SHAPE', where: 'out' }))
    using half = runtime.tensor('f16', [1, 4, 5, 8])
    expect(attempt(1, half)).toThrow(expect.objectContaining({ code: 'INVALID_DTYPE', where: 'out' }))
    expect(attempt(1, { ...out, offset: 2 })).toThrow(expect.objectContaining({ code: 'INVALID_VIEW' }))
    expect(attempt(1, { ...out, shape: [4, 5, 8] })).toThrow(expect.objectContaining({ code: 'INVALID_SHAPE' }))
    using short = runtime.tensor('f32', [1, 4, 6, 8])
    expect(attempt(4, short)).toThrow(expect.objectContaining({ code: 'BUFFER_TOO_SMALL', where: 'order' }))
  })
})
