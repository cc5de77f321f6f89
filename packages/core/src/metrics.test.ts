import { expect, test } from 'vitest'
import { recall, relativeError } from './metrics.js'

const empty = Number.NEGATIVE_INFINITY

test('recall is the share of softmax mass kept, over rows that see a key', () => {
  const dense = Float32Array.of(2, 1, empty)
  expect(recall(dense, dense)).toBe(1)
  expect(recall(Float32Array.of(2 - Math.LN2, 1, empty), dense)).toBeCloseTo(0.75, 6)
  expect(recall(Float32Array.of(empty, 1, empty), dense)).toBeCloseTo(0.5, 6)
  expect(recall(Float32Array.of(empty), Float32Array.of(empty))).toBe(1)
})

test('rounding does not lift recall above 1', () => {
  expect(recall(Float32Array.of(1.0000001), Float32Array.of(1))).toBe(1)
})

test('relative error is a quotient of norms; of zeros it is the norm itself; NaN stays visible', () => {
  expect(relativeError([3, 4], [3, 4])).toBe(0)
  expect(relativeError([0, 0], [3, 4])).toBe(1)
  expect(relativeError([3, 4], [0, 0])).toBe(5)
  expect(relativeError([Number.NaN, 4], [3, 4])).toBeNaN()
})
