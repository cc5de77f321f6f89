import { expect, test } from 'vitest'
import {
  countPairs,
  denseMask,
  forEachPlanRows,
  type HostPermutedPlan,
  type HostPlan,
  type HostStripePlan,
  type HostVariableBlockPlan,
  headPairs,
  keptShares,
  visiblePairs,
} from './host-plan.js'

const call = { batch: 1, queryHeads: 2, queryLength: 5, keyLength: 9 }

/** Both heads share the lists of one KV head: pairs of keys, and single columns. */
const stripes = (causal: boolean): HostStripePlan => ({
  kind: 'stripe',
  ...call,
  causal,
  blockQ: 3,
  heads: 1,
  lists: [
    { width: 2, capacity: 2 },
    { width: 1, capacity: 3 },
  ],
  counts: Int32Array.of(1, 2, 2, 0),
  // The last stripe of the second row reaches past the last key.
  indices: Int32Array.of(3, -1, 2, 8, 0, 5, -1, -1, -1, -1),
})

/** Query blocks of 2, 0 and 3 rows, key blocks of 4, 1 and 4 keys, of two heads. */
const clusters = (causal: boolean): HostVariableBlockPlan => ({
  kind: 'variable-block',
  ...call,
  causal,
  queryBlocks: 3,
  keyBlocks: 3,
  keyHeads: 1,
  bitmap: Uint32Array.of(0b101, 0b111, 0b010, 0b010, 0b000, 0b110),
  queryStarts: Int32Array.of(0, 2, 2, 5, 0, 1, 1, 5),
  keyStarts: Int32Array.of(0, 4, 5, 9),
})

/** What each head keeps of each query row, causality apart. */
const kept: Record<string, [plan: (causal: boolean) => HostPlan, rows: number[][][]]> = {
  stripes: [
    stripes,
    Array(2).fill([
      [0, 3, 4, 5],
      [0, 3, 4, 5],
      [0, 3, 4, 5],
      [2, 3, 8],
      [2, 3, 8],
    ]),
  ],
  'blocks of different sizes': [
    clusters,
    [
      [[0, 1, 2, 3, 5, 6, 7, 8], [0, 1, 2, 3, 5, 6, 7, 8], [4], [4], [4]],
      [[4], [4, 5, 6, 7, 8], [4, 5, 6, 7, 8], [4, 5, 6, 7, 8], [4, 5, 6, 7, 8]],
    ],
  ],
}

for (const [name, [plan, rows]] of Object.entries(kept)) {
  test.each([false, true])(`${name} keep what their lists say, causal %s`, (causal) => {
    const made = plan(causal)
    const mask = denseMask(made)
    const expected = rows.flatMap((head) =>
      head.flatMap((keys, row) =>
        Array.from({ length: 9 }, (_, key) => Number(keys.includes(key) && (!causal || key <= row + 4))),
      ),
    )
    expect([...mask]).toEqual(expected)
    const visible = causal ? 5 + 6 + 7 + 8 + 9 : 45
    const perHead = [0, 1].map((head) => ({
      kept: expected.slice(head * 45, (head + 1) * 45).reduce((sum, bit) => sum + bit, 0),
      visible,
    }))
    expect(headPairs(made)).toEqual(perHead)
    expect(countPairs(made)).toEqual({ kept: perHead[0]!.kept + perHead[1]!.kept, visible: 2 * visible })
  })

  test.each([false, true])(`shares of cells of ${name} are means of the mask, causal %s`, (causal) => {
    const made = plan(causal)
    const mask = denseMask(made)
    const shares = keptShares(made, 2, 4)
    expect(shares.length).toBe(2 * 3 * 3)
    for (let cell = 0; cell < shares.length; cell++) {
      const [head, y, x] = [Math.floor(cell / 9), Math.floor(cell / 3) % 3, cell % 3]
      let [inside, seen] = [0, 0]
      for (let row = 2 * y; row < Math.min(5, 2 * y + 2); row++) {
        for (let key = 4 * x; key < Math.min(9, 4 * x + 4); key++) {
          if (causal && key > row + 4) continue
          seen++
          inside += mask[(head * 5 + row) * 9 + key]!
        }
      }
      expect(shares[cell]).toBe(Math.fround(inside / seen)) // NaN where nothing is seen
    }
  })
}

test('ranges that touch come as one, in order across lists', () => {
  const ranges: number[][] = []
  forEachPlanRows(stripes(false), ({ head, keys }) => head === 0 && ranges.push([...keys]))
  expect(ranges).toEqual([
    [0, 1, 3, 6],
    [2, 4, 8, 9],
  ])
})

test('pairs of a rectangle are counted without visiting them', () => {
  for (const [queryLength, keyLength] of [
    [5, 9],
    [9, 5],
    [6, 6],
  ] as const) {
    for (const causal of [false, true]) {
      for (let firstRow = 0; firstRow <= queryLength; firstRow++) {
        for (let endRow = firstRow; endRow <= queryLength; endRow++) {
          for (let firstKey = 0; firstKey <= keyLength; firstKey += 2) {
            for (let endKey = firstKey; endKey <= keyLength; endKey++) {
              let pairs = 0
              for (let row = firstRow; row < endRow; row++) {
                for (let key = firstKey; key < endKey; key++)
                  pairs += Number(!causal || key <= row + keyLength - queryLength)
              }
              const counted = visiblePairs({ queryLength, keyLength, causal }, firstRow, endRow, firstKey, endKey)
              if (counted !== pairs) throw new Error(`${counted} pairs of ${[firstRow, endRow, firstKey, endKey]}`)
            }
          }
        }
      }
    }
  }
})

/** The clusters of both heads, of tokens in another order: of keys one for both. */
const permuted: HostPermutedPlan = {
  ...clusters(false),
  permutation: {
    keyHeads: 1,
    queries: Int32Array.of(4, 0, 2, 1, 3, 0, 1, 2, 3, 4),
    keys: Int32Array.of(8, 1, 5, 0, 2, 7, 3, 6, 4),
  },
}

test('a permuted plan is read in tokens', () => {
  const { queries, keys } = permuted.permutation
  const positions = denseMask({ ...clusters(false) })
  const expected = new Uint8Array(positions.length)
  positions.forEach((bit, at) => {
    const [head, row, key] = [Math.floor(at / 45), Math.floor(at / 9) % 5, at % 9]
    expected[(head * 5 + queries[head * 5 + row]!) * 9 + keys[key]!] = bit
  })
  expect(denseMask(permuted)).toEqual(expected)
  expect(headPairs(permuted)).toEqual(headPairs(clusters(false)))
  keptShares(permuted, 2, 4).forEach((share, cell) => {
    const [head, y, x] = [Math.floor(cell / 9), Math.floor(cell / 3) % 3, cell % 3]
    let [inside, all] = [0, 0]
    for (let row = 2 * y; row < Math.min(5, 2 * y + 2); row++) {
      for (let key = 4 * x; key < Math.min(9, 4 * x + 4); key++, all++) inside += expected[(head * 5 + row) * 9 + key]!
    }
    expect(share).toBe(Math.fround(inside / all))
  })
})
