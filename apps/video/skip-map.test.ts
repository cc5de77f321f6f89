import { countPairs, type HostBlockPlan, Random } from '@sparse-attention/core'
import { expect, it } from 'vitest'
import { type SkipMap, skipMap } from './skip-map.js'

const random = new Random(5)
const plan = (length: number, blockQ: number, blockK: number): HostBlockPlan => {
  const queryBlocks = Math.ceil(length / blockQ)
  const keyBlocks = Math.ceil(length / blockK)
  const words = Math.ceil(keyBlocks / 32)
  const bitmap = new Uint32Array(2 * queryBlocks * words)
  for (let row = 0; row < 2 * queryBlocks; row++)
    for (let c = 0; c < keyBlocks; c++) bitmap[row * words + (c >> 5)]! |= random.integer(2) << (c & 31)
  const shape = { batch: 1, queryHeads: 2, kvHeads: 2, queryLength: length, keyLength: length, causal: false }
  return { kind: 'block', ...shape, blockQ, blockK, bitmap } as HostBlockPlan
}

/** Share of all pairs of a head that its map shows as kept. */
function mapDensity({ rows, columns, queryLength, keyLength, ...map }: SkipMap, head: number): number {
  let kept = 0
  for (let y = 0; y < rows; y++) {
    const tall = Math.min(map.rowTokens, queryLength - y * map.rowTokens)
    for (let x = 0; x < columns; x++) {
      const wide = Math.min(map.columnTokens, keyLength - x * map.columnTokens)
      kept += tall * wide * (map.shares[(head * rows + y) * columns + x]! / 255)
    }
  }
  return kept / (queryLength * keyLength)
}

it('has a cell for a block, whole or fewer than fit, and the density of its plan', () => {
  const few = plan(200, 64, 32)
  const map = skipMap(few)
  expect([map.heads, map.rows, map.columns, map.rowTokens, map.columnTokens]).toEqual([2, 4, 7, 64, 32])
  expect(new Set(map.shares)).toEqual(new Set([0, 255]))
  expect((mapDensity(map, 0) + mapDensity(map, 1)) / 2).toBeCloseTo(countPairs(few).kept / (2 * 200 * 200), 12)

  const many = plan(64 * 100, 64, 32)
  const coarse = skipMap(many)
  expect([coarse.rows, coarse.columns, coarse.rowTokens, coarse.columnTokens]).toEqual([50, 50, 128, 128])
  const difference = (mapDensity(coarse, 0) + mapDensity(coarse, 1)) / 2 - countPairs(many).kept / (2 * 6400 * 6400)
  expect(Math.abs(difference)).toBeLessThan(0.5 / 255) // shares are rounded to steps of 1/255
})
