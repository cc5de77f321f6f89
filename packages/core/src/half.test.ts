import { describe, expect, test } from 'vitest'
import { floatsToHalves, floatToHalf, halfToFloat, halvesToFloats } from './half.js'

describe('half to float', () => {
  test('every finite half: equally spaced in its binade, from the smallest subnormal to 65504', () => {
    expect(halfToFloat(0)).toBe(0)
    let previous = 0
    for (let bits = 1; bits < 0x7c00; bits++) {
      const exponent = Math.max(1, (bits - 1) >> 10)
      const value = halfToFloat(bits)
      if (value - previous !== 2 ** (exponent - 25))
        throw new Error(`0x${bits.toString(16)} is ${value} after ${previous}`)
      if (halfToFloat(bits | 0x8000) !== -value) throw new Error(`-0x${bits.toString(16)}`)
      previous = value
    }
    expect(previous).toBe(65504)
    expect(halfToFloat(0x3c00)).toBe(1)
  })

  test('signed zero, infinities and every NaN', () => {
    expect(halfToFloat(0x8000)).toBe(-0)
    expect(halfToFloat(0x7c00)).toBe(Number.POSITIVE_INFINITY)
    expect(halfToFloat(0xfc00)).toBe(Number.NEGATIVE_INFINITY)
    for (let fraction = 1; fraction < 1024; fraction++) {
      expect(halfToFloat(0x7c00 | fraction)).toBeNaN()
      expect(halfToFloat(0xfc00 | fraction)).toBeNaN()
    }
  })
})

describe('float to half', () => {
  test('gives back all 65536 patterns, NaN as the quiet one', () => {
    for (let bits = 0; bits < 65536; bits++) {
      const back = floatToHalf(halfToFloat(bits))
      const quiet = (bits & 0x7c00) === 0x7c00 && (bits & 1023) !== 0
      if (back !== (quiet ? 0x7e00 : bits))
        throw new Error(`0x${bits.toString(16)} came back as 0x${back.toString(16)}`)
    }
  })

  test('between all neighbours: to the nearer one, and half-way to the even one', () => {
    const ulp = new Uint32Array(1)
    const float = new Float32Array(ulp.buffer)
    const next = (value: number, step: number) => {
      float[0] = value
      ulp[0]! += step
      return float[0]!
    }
    for (let low = 0; low < 0x7bff; low++) {
      const middle = (halfToFloat(low) + halfToFloat(low + 1)) / 2
      const even = low & 1 ? low + 1 : low
      const got = [
        floatToHalf(next(middle, -1)),
        floatToHalf(middle),
        floatToHalf(next(middle, 1)),
        floatToHalf(-middle),
      ]
      if (got.join() !== [low, even, low + 1, even | 0x8000].join()) throw new Error(`around ${middle}: ${got}`)
    }
  })

  test('overflow: 65520 and above are infinite, what is below is not', () => {
    expect(floatToHalf(65519.996)).toBe(0x7bff)
    expect(floatToHalf(65520)).toBe(0x7c00)
    expect(floatToHalf(-65520)).toBe(0xfc00)
    expect(floatToHalf(3.4e38)).toBe(0x7c00)
    expect(floatToHalf(1e300)).toBe(0x7c00)
    expect(floatToHalf(Number.NEGATIVE_INFINITY)).toBe(0xfc00)
  })

  test('underflow: half of the smallest subnormal is zero, a hair more is not', () => {
    expect(floatToHalf(2 ** -25)).toBe(0)
    expect(floatToHalf(2 ** -25 * (1 + 2 ** -23))).toBe(1)
    expect(floatToHalf(-(2 ** -26))).toBe(0x8000)
    expect(floatToHalf(2 ** -149)).toBe(0)
  })

  test('NaN stays NaN and zeros keep their sign', () => {
    expect(floatToHalf(Number.NaN) & 0x7fff).toBeGreaterThan(0x7c00)
    expect(floatToHalf(-0)).toBe(0x8000)
  })

  test('arrays convert element by element, from views too', () => {
    const halves = floatsToHalves([1, -2, 0.1])
    expect([...halves]).toEqual([0x3c00, 0xc000, 0x2e66])
    expect([...halvesToFloats(halves.subarray(1))]).toEqual([-2, Math.fround(0.0999755859375)])
  })
})
