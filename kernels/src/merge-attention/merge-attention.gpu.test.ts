import { createRuntime, type DType, type Runtime } from '@sparse-attention/core'
import { createRandom, guardedTensor } from '@sparse-attention/testing'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { largestDifference } from '../shared/test-frame.js'
import { testMemory } from '../shared/test-memory.js'
import { mergeAttention } from './merge-attention.js'
import { mergeReference } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  // As on a GPU: parts are then shared out between invocations.
  runtime = await createRuntime({ software: false })
})
afterAll(() => runtime.dispose())

const nothing = Number.NEGATIVE_INFINITY

test.each<[parts: number, headDim: number, dtype: DType, tolerance: number]>([
  [1, 64, 'f32', 1e-6], // one rounding of exp, log and product each, of numbers below 4
  [3, 24, 'f16', 2e-3], // half an ulp of numbers below 4
  [40, 128, 'f32', 2e-6], // a sum of 40, more than are taken at once
])('%i parts of head_dim %i to %s equal their float64 merge', async (parts, headDim, dtype, tolerance) => {
  const [batch, heads, length] = [2, 3, 5]
  const rows = batch * heads * length
  const random = createRandom(parts)
  const values = Float32Array.from({ length: parts * rows * headDim }, () => random.gaussian())
  // Row 0 has no part with a key, row 1 only the last one, row 2 parts of very different weight, row 3 huge ones.
  const lse = Float32Array.from({ length: parts * rows }, (_, i) => {
    const [part, row] = [Math.floor(i / rows), i % rows]
    if (row === 0 || (row === 1 && part < parts - 1)) return nothing
    if (row === 2) return -80 * part
    return (row === 3 ? 6e4 : 0) + 3 * random.gaussian()
  })
  // What an empty part left in its output must not matter.
  for (let at = 0; at < rows * headDim; at++) if (at < headDim) values[at] = Number.NaN
  using memory = testMemory(runtime)
  using out = guardedTensor(runtime, dtype, [batch, heads, length, headDim], 'BLHD')
  using total = runtime.tensor('f32', [batch, heads, length])
  const merge = await mergeAttention(runtime, { dtype, headDim })
  const partial = { count: parts, out: memory.words(values), statistics: memory.words(lse) }
  await memory.submit([merge(partial, out, total)])
  const expected = mergeReference(values, lse, { parts, rows, headDim })
  expect(largestDifference(await runtime.read(out), expected.out)).toBeLessThan(tolerance)
  const actual = await runtime.read(total)
  expect(actual[0]).toBe(nothing)
  // Of the huge row: half an ulp of 6e4.
  expect(largestDifference(actual.slice(1), expected.lse.slice(1))).toBeLessThan(4e-3)
  expect(largestDifference(actual.slice(4), expected.lse.slice(4))).toBeLessThan(2e-6) // numbers below 16
  expect(await out.damaged()).toBe(0)
})
