import { expect, test } from 'vitest'
import { pairwise } from './pairwise.js'

const parameters = {
  a: [1, 2, 3, 4, 5],
  b: ['x', 'y', 'z'],
  c: [true, false],
  d: [10, 20, 30, 40],
  e: [0],
}

test('every two values of every two parameters come together', () => {
  const rows = pairwise<{ a: number; b: string; c: boolean; d: number; e: number }>(parameters)
  const names = Object.keys(parameters) as (keyof typeof parameters)[]
  for (const [n, one] of names.entries()) {
    for (const other of names.slice(n + 1)) {
      for (const x of parameters[one]) {
        for (const y of parameters[other]) {
          expect(
            rows.some((row) => row[one] === x && row[other] === y),
            `${one}=${x} ${other}=${y}`,
          ).toBe(true)
        }
      }
    }
  }
  // The two largest parameters need 20 rows; all combinations would be 120.
  expect(rows.length).toBeLessThanOrEqual(24)
})

test('the rows depend on nothing but parameters and seed', () => {
  expect(pairwise(parameters, { seed: 3 })).toEqual(pairwise(parameters, { seed: 3 }))
  expect(pairwise(parameters, { seed: 3 })).not.toEqual(pairwise(parameters, { seed: 4 }))
})

test('costly rows are taken only where a pair needs them', () => {
  const isCostly = (row: { a: number; d: number }) => row.a === 5 && row.d === 40
  const rows = pairwise<{ a: number; b: string; c: boolean; d: number; e: number }>(parameters, {
    cost: (row) => (isCostly(row) ? 100 : 1),
  })
  expect(rows.filter(isCostly).length).toBe(1)
  const growing = pairwise<{ a: number; d: number }>(
    { a: [1, 2], d: [1, 2] },
    { cost: (row, taken) => (row.a === 2 && taken.length < 2 ? 100 : 1) },
  )
  expect(growing.map((row) => row.a)).toEqual([1, 1, 2, 2])
})

test('one parameter alone takes each of its values, and a parameter needs one', () => {
  expect(pairwise({ a: [1, 2, 3] })).toEqual([{ a: 1 }, { a: 2 }, { a: 3 }])
  expect(() => pairwise({ a: [1], b: [] })).toThrow('no value for b')
})
