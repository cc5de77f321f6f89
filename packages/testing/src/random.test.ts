import { expect, test } from 'vitest'
import { createRandom, seedFrom } from './random.js'

test('a seed gives the same numbers everywhere', () => {
  const random = createRandom(1)
  // From the public mulberry32, seed 1.
  expect([random.uniform(), random.uniform()]).toEqual([0.6270739405881613, 0.002735721180215478])
})

test('gaussians have mean 0 and variance 1, integers both ends', () => {
  const random = createRandom(2)
  const values = Array.from({ length: 20_000 }, () => random.gaussian())
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length
  const variance = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length
  expect(Math.abs(mean)).toBeLessThan(0.02) // deviation of the mean: 0.007
  expect(Math.abs(variance - 1)).toBeLessThan(0.03) // deviation of the variance: 0.01
  expect(values.every(Number.isFinite)).toBe(true)
  expect(new Set(Array.from({ length: 100 }, () => random.integer(-1, 2)))).toEqual(new Set([-1, 0, 1, 2]))
})

test('a name gives its FNV-1a hash', () => {
  expect(seedFrom('')).toBe(0x811c9dc5)
  expect(seedFrom('a')).toBe(0xe40c292c)
})
