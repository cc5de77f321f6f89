import { type HostPlan, headPairs, keptShares } from '@sparse-attention/core'
import { describe, expect, it } from 'vitest'
import { panned, planHead, wholePlan, windowShares, zoomed } from './plan-grid.js'

const shape = { batch: 1, queryHeads: 2, queryLength: 70, keyLength: 90, causal: true }
const blocks: HostPlan = {
  ...{ kind: 'block', ...shape, blockQ: 16, blockK: 16 },
  // A different row of blocks for each row of each head.
  bitmap: Uint32Array.from({ length: 2 * 5 }, (_, row) => (row * 0x9e37) & 0x3f),
} as HostPlan

describe('windowShares', () => {
  it.each([0, 1])('of a whole head are the plan’s own shares, head %i', (head) => {
    // 7 divides 70 and 9 divides 90, so both cut the plan at the same tokens.
    const expected = keptShares(blocks, 10, 10).subarray(head * 63, head * 63 + 63)
    const found = windowShares(planHead(blocks, head), wholePlan(blocks), 7, 9)
    expect(found.cells).toEqual(expected)
    expect({ kept: found.keptPairs, visible: found.visiblePairs }).toEqual(headPairs(blocks)[head])
  })

  it('of a window are 0 or 1 where a cell is one token', () => {
    const window = { firstRow: 30, endRow: 40, firstKey: 12, endKey: 36 }
    const exact = keptShares(blocks, 1, 1)
    const { cells: shares } = windowShares(planHead(blocks, 1), window, 10, 24)
    for (let y = 0; y < 10; y++) {
      for (let x = 0; x < 24; x++) {
        expect(shares[y * 24 + x]).toBe(exact[70 * 90 + (30 + y) * 90 + 12 + x])
      }
    }
  })

  it('says NaN where no query sees a key', () => {
    const future = { firstRow: 0, endRow: 8, firstKey: 60, endKey: 80 }
    const { cells, visiblePairs } = windowShares(planHead(blocks, 0), future, 2, 2)
    expect([...cells]).toEqual(new Array(4).fill(Number.NaN))
    expect(visiblePairs).toBe(0)
  })
})

describe('zoom and pan', () => {
  it('keep the place under the pointer, and stay inside the plan', () => {
    const half = zoomed(blocks, wholePlan(blocks), 2, 0, 1)
    expect(half).toEqual({ firstRow: 35, endRow: 70, firstKey: 0, endKey: 45 })
    expect(panned(blocks, half, 1, 1)).toEqual({ firstRow: 35, endRow: 70, firstKey: 45, endKey: 90 })
    expect(panned(blocks, half, -1, -9)).toEqual({ firstRow: 0, endRow: 35, firstKey: 0, endKey: 45 })
    expect(zoomed(blocks, half, 0.1)).toEqual(wholePlan(blocks))
    const close = zoomed(blocks, half, 1000)
    expect([close.endRow - close.firstRow, close.endKey - close.firstKey]).toEqual([8, 8])
  })
})
