import { expect, test } from 'vitest'
import { attentionOracle } from './oracle.js'
import { plainAttention } from './plain-attention.js'

const one = {
  batch: 1,
  queryHeads: 1,
  kvHeads: 1,
  queryLength: 1,
  keyLength: 1,
  headDim: 1,
  scale: 1,
  mask: 'none',
} as const

test('softmax of logits ln 3 and 0 weighs values 3 : 1', () => {
  const { out, lse } = attentionOracle({
    ...one,
    keyLength: 2,
    headDim: 2,
    scale: 0.5,
    q: [2 * Math.log(3), 1],
    k: [1, 0, 0, 0],
    v: [8, -4, 0, 4],
  })
  expect(out[0]).toBeCloseTo(6, 14)
  expect(out[1]).toBeCloseTo(-2, 14)
  expect(lse[0]).toBeCloseTo(Math.log(4), 14)
})

test('causal is bottom-right: with more queries than keys the first rows are empty', () => {
  const { out, lse } = attentionOracle({
    ...one,
    queryLength: 3,
    keyLength: 2,
    mask: 'causal',
    q: [0, 0, 0],
    k: [0, 0],
    v: [2, 4],
  })
  expect([...out]).toEqual([0, 2, 3])
  expect([...lse]).toEqual([Number.NEGATIVE_INFINITY, 0, Math.log(2)])
})

test('causal with more keys than queries lets row 0 see the keys before it', () => {
  const { out } = attentionOracle({
    ...one,
    queryLength: 2,
    keyLength: 3,
    mask: 'causal',
    q: [0, 0],
    k: [0, 0, 0],
    v: [3, 5, 10],
  })
  expect([...out]).toEqual([4, 6])
})

test('a dense mask picks keys row by row, and may leave a row empty', () => {
  const mask = Uint8Array.from([0, 1, 0, 0, 0, 0, 1, 0, 1])
  const { out, lse } = attentionOracle({
    ...one,
    queryLength: 3,
    keyLength: 3,
    mask,
    q: [0, 0, 0],
    k: [0, 0, 0],
    v: [3, 5, 10],
  })
  expect([...out]).toEqual([5, 0, 6.5])
  expect(lse[1]).toBe(Number.NEGATIVE_INFINITY)
})

test('query head h reads KV head ⌊h·Hkv/Hq⌋ of its own batch entry', () => {
  const shape = { ...one, batch: 2, queryHeads: 4, kvHeads: 2 }
  const { out } = attentionOracle({ ...shape, q: new Float64Array(8), k: [0, 0, 0, 0], v: [10, 11, 20, 21] })
  expect([...out]).toEqual([10, 10, 11, 11, 20, 20, 21, 21])
})

test('logits of ±10⁹ neither overflow nor vanish', () => {
  const { out, lse } = attentionOracle({ ...one, keyLength: 3, q: [1e9], k: [1, 1, -1], v: [1, 3, 7] })
  expect(out[0]).toBe(2)
  expect(lse[0]).toBe(1e9 + Math.log(2))
})

test('magnitudes tell what was summed where values and products cancel', () => {
  const { out, outMagnitude, lseMagnitude } = attentionOracle({
    ...one,
    keyLength: 2,
    headDim: 2,
    q: [30, 30],
    k: [1, -1, 1, -1],
    v: [5, 0, -5, 0],
  })
  expect(out[0]).toBe(0)
  expect([...outMagnitude]).toEqual([5, 0])
  expect(lseMagnitude[0]).toBe(60)
})

test('NaN in a key reaches only the rows that read it', () => {
  const { out } = attentionOracle({
    ...one,
    queryLength: 2,
    keyLength: 2,
    mask: 'causal',
    q: [1, 1],
    k: [0, Number.NaN],
    v: [1, 1],
  })
  expect(out[0]).toBe(1)
  expect(out[1]).toBeNaN()
})

test('the plain computation rounds every step to float32, and f16 inputs and outputs to halves', () => {
  const shape = { ...one, keyLength: 3, q: [0.1], k: [0.2, 0.3, 0.7], v: [0.1, 0.2, 0.7] }
  const f = Math.fround
  const p = [0.2, 0.3, 0.7].map((k) => f(f(0.1) * f(k))).map((z, _, all) => f(Math.exp(f(z - all[2]!))))
  const weigh = (values: number[]) => values.reduce((sum, v, j) => f(sum + f(p[j]! * f(v))), 0)
  const total = p.reduce((sum, x) => f(sum + x), 0)
  expect(plainAttention(shape, 'f32').out[0]).toBe(f(weigh([0.1, 0.2, 0.7]) / total))

  // 1 + 2^-12 is no half, so three such values average to 1; 2049 rounds to 2048 on the way in.
  const halves = { ...one, keyLength: 3, q: [0], k: [0, 0, 0], v: [1 + 2 ** -12, 1 + 2 ** -12, 1 + 2 ** -12] }
  expect(plainAttention(halves, 'f16').out[0]).toBe(1)
  expect(plainAttention(halves, 'f32').out[0]).toBeCloseTo(1 + 2 ** -12, 6)
  expect(plainAttention({ ...one, q: [0], k: [0], v: [2049] }, 'f16').out[0]).toBe(2048)
})

test('the plain computation leaves empty rows 0 and −∞ too', () => {
  const { out, lse } = plainAttention({ ...one, queryLength: 2, mask: 'causal', q: [1, 1], k: [1], v: [3] }, 'f16')
  expect([...out]).toEqual([0, 3])
  expect([...lse]).toEqual([Number.NEGATIVE_INFINITY, 1])
})
