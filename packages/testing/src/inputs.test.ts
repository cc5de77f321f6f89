import { floatToHalf, halfToFloat } from '@sparse-attention/core'
import { describe, expect, test } from 'vitest'
import { type InputKind, inputKinds, makeInputs, scaleFor } from './inputs.js'

const shape = { batch: 2, queryHeads: 4, kvHeads: 2, queryLength: 24, keyLength: 40, headDim: 32 }

function logits(kind: InputKind, seed = 1): number[][] {
  const { q, k } = makeInputs(kind, shape, 'f32', seed)
  const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim } = shape
  return Array.from({ length: batch * queryHeads * queryLength }, (_, row) => {
    const head = Math.floor(row / queryLength)
    const kvHead = Math.floor(head / queryHeads) * kvHeads + Math.floor(((head % queryHeads) * kvHeads) / queryHeads)
    return Array.from({ length: keyLength }, (_, j) => {
      let dot = 0
      for (let d = 0; d < headDim; d++) dot += q[row * headDim + d]! * k[(kvHead * keyLength + j) * headDim + d]!
      return dot * scaleFor(kind, headDim)
    })
  })
}

describe.each(inputKinds)('%s', (kind) => {
  test('has the shape, is finite, rounded to the dtype and the same for a seed', () => {
    const inputs = makeInputs(kind, shape, 'f16', 5)
    expect(inputs.q.length).toBe(2 * 4 * 24 * 32)
    expect(inputs.k.length).toBe(2 * 2 * 40 * 32)
    for (const values of [inputs.q, inputs.k, inputs.v]) {
      expect(values.every((x) => Number.isFinite(x) && Object.is(halfToFloat(floatToHalf(x)), x))).toBe(true)
    }
    expect(inputs.v.some((x) => x !== 0)).toBe(true)
    expect(makeInputs(kind, shape, 'f16', 5)).toEqual(inputs)
    expect(makeInputs(kind, shape, 'f16', 6)).not.toEqual(inputs)
  })
})

test('needle: in every row one key stands out', () => {
  for (const row of logits('needle')) {
    const [first, second] = [...row].sort((a, b) => b - a)
    expect(first! - second!).toBeGreaterThan(1)
  }
})

test('stripes: a head looks at the same few keys in every row', () => {
  const rows = logits('stripes').slice(0, 24)
  const columns = rows.map((row) => row.flatMap((z, j) => (z > 6 ? [j] : [])).join())
  expect(new Set(columns).size).toBe(1)
  expect(columns[0]!.length).toBeGreaterThan(0)
})

test('diagonals: a row looks at the key of its own position', () => {
  // About 10, from 32 random numbers; other logits have deviation 3.
  for (const [i, row] of logits('diagonals').entries()) expect(row[(i % 24) + 16]).toBeGreaterThan(3)
})

test('zero queries and identical keys tie', () => {
  for (const row of [...logits('zero-queries'), ...logits('identical-keys')]) expect(new Set(row).size).toBe(1)
})

test('huge logits reach ±100', () => {
  const all = logits('huge-logits').flat()
  expect(Math.max(...all)).toBeGreaterThan(100)
  expect(Math.min(...all)).toBeLessThan(-100)
})

test('f16 extremes: the largest half is there, and logits are exact in float32', () => {
  const { q, v } = makeInputs('f16-extremes', shape, 'f16', 1)
  expect(q).toContain(65504)
  expect(v).toContain(-65504)
  expect(v).toContain(2 ** -24)
  for (const z of logits('f16-extremes').flat()) expect(Math.fround(z)).toBe(z)
})
