import { type BlockPlanData, blockGrid, type Runtime } from '@sparse-attention/core'
import { createRandom, makeInputs, testRuntime } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { testFrame } from '../../shared/test-frame.js'
import { CUT_PIECES, PIECES } from './emit.js'
import { rowPieces } from './pieces.js'

interface Case {
  readonly causal: boolean
  readonly queryLength: number
  readonly keyLength: number
  readonly blockQ: number
  readonly blockK: number
  readonly rows: number
  /** Share of the blocks that a row of blocks keeps. */
  readonly density: (row: number) => number
}

const shape = { batch: 2, queryHeads: 3, kvHeads: 3, headDim: 16 }

/** Bits behind the last block are set: nothing may follow them. */
function bitmapOf(c: Case): Uint32Array {
  const random = createRandom(c.keyLength)
  const { queryBlocks, keyBlocks, wordsPerRow } = blockGrid(c)
  return Uint32Array.from({ length: 6 * queryBlocks * wordsPerRow }, (_, word) => {
    const density = c.density(Math.floor(word / wordsPerRow))
    let bits = 0
    for (let bit = 0; bit < 32; bit++) {
      const behind = (word % wordsPerRow) * 32 + bit >= keyBlocks
      if (behind || random.uniform() < density) bits |= 1 << bit
    }
    return bits >>> 0
  })
}

describe('the pieces of a plan', () => {
  let runtime: Runtime
  beforeAll(async () => {
    runtime = await testRuntime()
  })
  afterAll(() => runtime.dispose())

  test.each<[string, Case]>([
    [
      'few even rows are cut in two, to fill more workgroups',
      { causal: false, queryLength: 512, keyLength: 4096, blockQ: 64, blockK: 64, rows: 64, density: () => 0.3 },
    ],
    [
      'long rows among short ones are',
      {
        ...{ causal: true, queryLength: 300, keyLength: 9000, blockQ: 128, blockK: 64, rows: 64 },
        density: (row) => (row % 5 === 0 ? 1 : 0.03),
      },
    ],
    [
      'rows without a block stay one piece',
      { causal: true, queryLength: 400, keyLength: 400, blockQ: 64, blockK: 128, rows: 64, density: (row) => row % 2 },
    ],
    [
      'more rows than lanes',
      {
        ...{ causal: false, queryLength: 9000, keyLength: 2048, blockQ: 64, blockK: 64, rows: 64 },
        density: (row) => (row === 77 ? 1 : 0.02),
      },
    ],
  ])('%s', async (_, c) => {
    const host = bitmapOf(c)
    using frame = testFrame(runtime, { ...shape, ...c }, makeInputs('gaussian', { ...shape, ...c }, 'f16', 1), {
      ...{ dtype: 'f16', causal: c.causal, scale: 1 },
    })
    const bitmap = frame.memory([host.length], new Float32Array(host.buffer))
    const plan: BlockPlanData = { kind: 'block', ...shape, ...c, bitmap }
    const made = (await rowPieces(runtime, 16, c.rows))(frame.frame, plan)
    await frame.submit(made.before)
    const words = await frame.words(made.pieces)
    const pieces = Array.from({ length: made.count }, (_, i) => [...words.subarray(4 * i, 4 * i + 4)])
    const present = pieces.filter(([row]) => row !== 0xffffffff)

    const { queryBlocks, keyBlocks, wordsPerRow } = blockGrid(c)
    const rowBlocks = Math.ceil(c.queryLength / c.rows)
    const lengths = Array.from({ length: 6 * rowBlocks }, (_, row) => {
      const last = Math.min(c.queryLength, ((row % rowBlocks) + 1) * c.rows) - 1
      const end = c.causal ? Math.min(c.keyLength, last + c.keyLength - c.queryLength + 1) : c.keyLength
      const planRow = Math.floor(row / rowBlocks) * queryBlocks + Math.floor(((row % rowBlocks) * c.rows) / c.blockQ)
      const kept: boolean[] = []
      for (let block = 0; block * c.blockK < end; block++) {
        kept.push(((host[planRow * wordsPerRow + (block >> 5)]! >>> (block & 31)) & 1) === 1)
      }
      return kept
    })
    const count = (kept: readonly boolean[]) => kept.filter(Boolean).length
    const total = lengths.reduce((sum, kept) => sum + count(kept), 0)
    const share = Math.max(Math.ceil(1024 / c.blockK), Math.ceil(total / PIECES))
    const sizes = present.map(([row, first, end]) => count(lengths[row!]!.slice(first, end)))

    // Every row once, its pieces one behind another, none larger than a share.
    for (const [row, kept] of lengths.entries()) {
      const own = present.filter(([r]) => r === row).sort((a, b) => a[1]! - b[1]!)
      expect(own.length).toBe(count(kept) > share ? own.length : 1)
      expect([own[0]![1], own.at(-1)![2]]).toEqual([0, keyBlocks])
      for (let i = 1; i < own.length; i++) expect(own[i]![1]).toBe(own[i - 1]![2])
      expect(own.every(([, , , slot]) => (own.length > 1 ? slot! > 0 : slot === 0))).toBe(true)
    }
    expect(Math.max(...sizes)).toBeLessThanOrEqual(share)
    const slots = present.map(([, , , slot]) => slot!).filter((slot) => slot > 0)
    expect(new Set(slots).size).toBe(slots.length)
    expect(Math.max(0, ...slots)).toBeLessThanOrEqual(CUT_PIECES)
    // Long ones first, by the 127th of a share; the last piece of a row, which may be short, among the others.
    const largest = present.map(([row]) => Math.max(...sizes.filter((_, i) => present[i]![0] === row)))
    for (let i = 1; i < sizes.length; i++) expect(largest[i]! - largest[i - 1]!).toBeLessThanOrEqual(share / 127)
    // Behind them no piece.
    expect(pieces.slice(present.length).every(([row]) => row === 0xffffffff)).toBe(true)
  })
})
