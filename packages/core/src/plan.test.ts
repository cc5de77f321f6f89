import { expect, test } from 'vitest'
import { countPairs, denseMask, type HostBlockPlan, hasBlock } from './host-plan.js'
import { type BlockGeometry, blockGrid, lastVisibleKey } from './plan.js'

/** Pseudo-random bits, about half of them set. */
function plan(geometry: BlockGeometry): HostBlockPlan {
  const { queryBlocks, wordsPerRow } = blockGrid(geometry)
  const words = geometry.batch * geometry.queryHeads * queryBlocks * wordsPerRow
  return {
    kind: 'block',
    ...geometry,
    bitmap: Uint32Array.from({ length: words }, (_, i) => Math.imul(i + 1, 0x9e3779b9)),
  }
}

const geometries: BlockGeometry[] = [false, true].flatMap((causal) => [
  { batch: 2, queryHeads: 3, queryLength: 7, keyLength: 7, blockQ: 2, blockK: 3, causal },
  { batch: 1, queryHeads: 2, queryLength: 9, keyLength: 4, blockQ: 4, blockK: 2, causal },
  { batch: 1, queryHeads: 1, queryLength: 3, keyLength: 80, blockQ: 2, blockK: 2, causal },
  { batch: 1, queryHeads: 1, queryLength: 1, keyLength: 1, blockQ: 64, blockK: 64, causal },
])

test('the grid rounds up, and rows start on a word', () => {
  expect(blockGrid({ queryLength: 129, keyLength: 33 * 64, blockQ: 128, blockK: 64 })).toEqual({
    queryBlocks: 2,
    keyBlocks: 33,
    wordsPerRow: 2,
  })
  expect(blockGrid({ queryLength: 1, keyLength: 32, blockQ: 64, blockK: 1 })).toMatchObject({
    queryBlocks: 1,
    wordsPerRow: 1,
  })
})

test('causal is bottom-right: the last query sees all keys, the first ones may see none', () => {
  const seen = (queryLength: number, keyLength: number) =>
    Array.from({ length: queryLength }, (_, row) => lastVisibleKey({ queryLength, keyLength, causal: true }, row))
  expect(seen(3, 3)).toEqual([0, 1, 2])
  expect(seen(2, 4)).toEqual([2, 3])
  expect(seen(4, 2).map((last) => Math.max(-1, last))).toEqual([-1, -1, 0, 1])
  expect(lastVisibleKey({ queryLength: 4, keyLength: 2, causal: false }, 0)).toBe(1)
})

test('block c of a row is bit c%32 of its word c/32', () => {
  const geometry = {
    kind: 'block',
    batch: 2,
    queryHeads: 2,
    queryLength: 4,
    keyLength: 70,
    blockQ: 2,
    blockK: 2,
    causal: false,
  } as const
  const bitmap = new Uint32Array(2 * 2 * 2 * 2)
  bitmap[((1 * 2 + 0) * 2 + 1) * 2 + 1] = 1 << 2 // batch 1, head 0, query block 1, key block 34
  const found: number[][] = []
  for (const b of [0, 1]) {
    for (const h of [0, 1]) {
      for (const a of [0, 1])
        for (let c = 0; c < 35; c++) if (hasBlock({ ...geometry, bitmap }, b, h, a, c)) found.push([b, h, a, c])
    }
  }
  expect(found).toEqual([[1, 0, 1, 34]])
  bitmap.fill(0x80000000)
  expect(hasBlock({ ...geometry, bitmap }, 0, 0, 0, 31)).toBe(true)
})

test.each(geometries)('the mask is block membership and causality, and pairs are its sum: %o', (geometry) => {
  const made = plan(geometry)
  const mask = denseMask(made)
  const { batch, queryHeads, queryLength, keyLength, blockQ, blockK } = geometry
  let [kept, visible, at] = [0, 0, 0]
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < queryHeads; h++) {
      for (let i = 0; i < queryLength; i++) {
        for (let j = 0; j < keyLength; j++) {
          const sees = !geometry.causal || j <= i + keyLength - queryLength
          const inPlan = hasBlock(made, b, h, Math.floor(i / blockQ), Math.floor(j / blockK))
          if (mask[at++] !== Number(sees && inPlan)) throw new Error(`wrong at [${[b, h, i, j]}]`)
          visible += Number(sees)
          kept += Number(sees && inPlan)
        }
      }
    }
  }
  expect(mask.length).toBe(at)
  expect(countPairs(made)).toEqual({ kept, visible })
})
