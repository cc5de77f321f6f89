import { describe, expect, test } from 'vitest'
import { errorInUlps, expectAttentionClose } from './error-rule.js'
import { type InputKind, inputKinds, makeInputs, scaleFor } from './inputs.js'
import { attentionOracle } from './oracle.js'
import { plainAttention } from './plain-attention.js'

const shape = { batch: 1, queryHeads: 2, kvHeads: 1, queryLength: 20, keyLength: 17, headDim: 8 }

function problem(kind: InputKind = 'gaussian', dtype: 'f32' | 'f16' = 'f32') {
  return {
    ...shape,
    ...makeInputs(kind, shape, dtype, 7),
    scale: scaleFor(kind, shape.headDim),
    mask: 'causal' as const,
    dtype,
    name: 'the case',
  }
}

describe.each(['f32', 'f16'] as const)('%s', (dtype) => {
  test.each(inputKinds)('accepts the plain computation and the rounded exact answer: %s', (kind) => {
    const given = problem(kind, dtype)
    expectAttentionClose(plainAttention(given, dtype), given)
    const exact = attentionOracle(given)
    expectAttentionClose({ out: Float32Array.from(exact.out), lse: Float32Array.from(exact.lse) }, given)
  })

  test('refuses one element that is off by a thousandth part, and names case, element and errors', () => {
    const given = problem('gaussian', dtype)
    const { out, lse } = plainAttention(given, dtype)
    out[(1 * 20 + 9) * 8 + 3]! += dtype === 'f32' ? 1e-3 : 1e-2
    expect(() => expectAttentionClose({ out, lse }, given)).toThrow(
      /^the case: out has a largest error of [\d.]+ ulp \(f\d\d\) against float64; a plain computation has .* Worst at \[0,1,9,3\]: /,
    )
  })

  test('refuses an answer that leaves a key out', () => {
    const given = problem('gaussian', dtype)
    const mask = new Uint8Array(2 * 20 * 17).fill(1)
    mask[5] = 0
    const { out } = plainAttention({ ...given, mask }, dtype)
    expect(() => expectAttentionClose({ out }, { ...given, mask: 'none' })).toThrow('out has a largest error')
  })

  test.each([Number.NaN, Number.POSITIVE_INFINITY])('refuses %f where the exact answer is finite', (value) => {
    const given = problem('gaussian', dtype)
    const { out } = plainAttention(given, dtype)
    out[100] = value
    expect(() => expectAttentionClose({ out }, given)).toThrow('largest error of Infinity ulp')
  })

  test('refuses a finite stand-in for the LSE of an empty row', () => {
    const given = problem('gaussian', dtype)
    const { out, lse } = plainAttention(given, dtype)
    expect(lse[0]).toBe(Number.NEGATIVE_INFINITY)
    lse[0] = -3.4e38
    expect(() => expectAttentionClose({ out, lse }, given)).toThrow('lse has a largest error of Infinity ulp')
  })
})

test('refuses an LSE in base 2', () => {
  const given = problem()
  const { out, lse } = plainAttention(given, 'f32')
  expect(() => expectAttentionClose({ out, lse: lse.map((x) => x / Math.LN2) }, given)).toThrow(
    'lse has a largest error',
  )
})

test('f32 answers that went through f16 are refused', () => {
  const given = problem()
  expect(() => expectAttentionClose(plainAttention(given, 'f16'), given)).toThrow('out has a largest error')
})

test('a small error in every element fails by the rms where the largest plain error hides it', () => {
  // One row sums large numbers that cancel, so its plain error is large; all others are exact.
  const rows = 200
  const q = new Float64Array(rows * 2)
  q[0] = 3e4
  q[1] = 3e4
  const given = {
    ...{ batch: 1, queryHeads: 1, kvHeads: 1, queryLength: rows, keyLength: 2, headDim: 2, scale: 1 },
    ...({ mask: 'none', dtype: 'f32', name: 'the case' } as const),
    q,
    k: Float64Array.from([1, -1 + 2 ** -20, 1 + 2 ** -22, -1 + 2 ** -21]),
    v: Float64Array.from([1, 1, -0.5, 1]),
  }
  const plain = plainAttention(given, 'f32')
  expectAttentionClose(plain, given)
  const max = errorInUlps(plain.out, attentionOracle(given).out, attentionOracle(given).outMagnitude, 'f32').max
  expect(max).toBeGreaterThan(1000)
  const biased = plain.out.map((x) => x * (1 + max * 2 ** -23))
  expect(() => expectAttentionClose({ out: biased }, given)).toThrow('out has an rms error')
})

test('errors are measured in ulp of what was summed, not of what is left of it', () => {
  expect(errorInUlps([2 ** -23], [0], [1], 'f32').max).toBe(1)
  expect(errorInUlps([2 ** -20], [0], [8], 'f32').max).toBe(1)
  expect(errorInUlps([1, 1 + 2 ** -9], [1, 1], [1, 1], 'f16')).toMatchObject({ worst: 1 })
})

test('a subnormal half may be taken for zero', () => {
  expect(errorInUlps([0], [2 ** -15], [2 ** -15], 'f16').max).toBe(0)
  expect(errorInUlps([0], [2 ** -13], [2 ** -13], 'f16').max).toBeGreaterThan(100)
})

test('an answer of another length is refused', () => {
  const given = problem()
  expect(() => expectAttentionClose({ out: new Float32Array(3) }, given)).toThrow('3 elements, expected 320')
})
