import type { HostBlockPlan, HostPlan, HostStripePlan } from '@sparse-attention/core'
import { describe, expect, test } from 'vitest'
import type { ReferenceSelection } from './reference.js'
import { expectSelectionClose } from './selection-rule.js'

/** One head of 4 key blocks, one row of queries that sees all of them unless it is causal. */
function plan(kept: readonly number[], overrides: Partial<HostBlockPlan> = {}): HostBlockPlan {
  const geometry = {
    kind: 'block',
    batch: 1,
    queryHeads: 1,
    queryLength: 64,
    keyLength: 256,
    blockQ: 64,
    blockK: 64,
    causal: false,
  } as const
  return { ...geometry, bitmap: Uint32Array.of(kept.reduce((bits, c) => bits | (1 << c), 0)), ...overrides }
}

function reference(
  kept: readonly number[],
  scores: number[],
  gap: number,
  more: Partial<ReferenceSelection> = {},
): ReferenceSelection {
  return {
    blockQ: 64,
    blockK: 64,
    kept: Uint8Array.from({ length: 4 }, (_, c) => Number(kept.includes(c))),
    scores: Float64Array.from(scores),
    gap: Float64Array.of(gap),
    ...more,
  }
}

const name = 'the case'
const close = reference([0, 2], [5, 1, 3.00001, 3], 1e-5)

test('the same selection passes, whatever the gap', () => {
  expectSelectionClose(plan([0, 2]), close, { name })
  expectSelectionClose(plan([0, 2]), close, { name, exact: true })
})

test('another block is refused where the gap is wide, and the message names the row and both sets', () => {
  const wide = reference([0, 2], [5, 1, 4, 3], 1)
  expect(() => expectSelectionClose(plan([0, 3]), wide, { name })).toThrow(
    'the case: query block 0 of head 0, batch 0, keeps key blocks {0,3}, the reference {0,2}; the gap at the cut is 1',
  )
})

test('another block of the same mass passes where the gap is close, unless scores are exact', () => {
  expectSelectionClose(plan([0, 3]), close, { name })
  expect(() => expectSelectionClose(plan([0, 3]), close, { name, exact: true })).toThrow('scores are exact here')
})

test('another mass is refused where the gap is close', () => {
  expect(() => expectSelectionClose(plan([0, 1]), close, { name })).toThrow('the mass kept differs by 0.16')
  expect(() => expectSelectionClose(plan([0]), close, { name })).toThrow('the mass kept differs')
})

test('top-p may keep the block on whose border the threshold falls, or not, and nothing else', () => {
  const border = reference([0, 1, 2], [5, 3, 2, 2], 1e-17, { target: Float64Array.of(10) })
  expectSelectionClose(plan([0, 1, 2]), border, { name })
  expectSelectionClose(plan([0, 1, 3]), border, { name })
  expectSelectionClose(plan([0, 1, 2, 3]), border, { name })
  expect(() => expectSelectionClose(plan([0, 1]), border, { name })).toThrow('holds 8, less than the target 10')
  expect(() => expectSelectionClose(plan([0, 2, 3]), border, { name })).toThrow('less than the target')
  const lower = { ...border, target: Float64Array.of(8.5) }
  expect(() => expectSelectionClose(plan([0, 1, 2, 3]), lower, { name })).toThrow('without its least block of 2')
  expect(() => expectSelectionClose(plan([0, 2, 3]), lower, { name })).toThrow('it leaves out 3 and keeps 2')
})

test('mass is what the reference says it is', () => {
  const heavy = { ...close, mass: Float64Array.of(1, 1, 1, 2) }
  expect(() => expectSelectionClose(plan([0, 3]), heavy, { name })).toThrow('the mass kept differs by 0.2')
})

test('a forced block is always in, also where the reference forgot it', () => {
  const forced = reference([0, 2], [5, 1, 3, 3], 0, { forced: Uint8Array.of(0, 1, 0, 0) })
  expect(() => expectSelectionClose(plan([0, 2]), forced, { name })).toThrow('{1} are forced')
})

test('blocks that no row sees do not count', () => {
  const causal = { causal: true, queryLength: 64, keyLength: 64 * 4 }
  expectSelectionClose(plan([0, 2], causal), close, { name })
  // 300 queries on 256 keys: the first query block of 44 rows sees nothing.
  const empty = { causal: true, queryLength: 300, bitmap: new Uint32Array(5).fill(0b1111) }
  const kept = Uint8Array.from([0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1])
  const { blockQ, blockK } = close
  expect(() => expectSelectionClose(plan([], empty), { blockQ, blockK, kept }, { name })).toThrow(
    'query block 0 of head 0',
  )
  kept[0] = 1
  kept[5] = 1
  kept[10] = 1
  kept[15] = 1
  expectSelectionClose(plan([], empty), { blockQ, blockK, kept }, { name })
})

test('without scores the selection must be the same', () => {
  const { blockQ, blockK, kept } = close
  expectSelectionClose(plan([0, 2]), { blockQ, blockK, kept }, { name })
  expect(() => expectSelectionClose(plan([0, 3]), { blockQ, blockK, kept }, { name })).toThrow(
    'the rule looks at no score',
  )
})

test('a gap of NaN is no excuse', () => {
  expect(() => expectSelectionClose(plan([0, 3]), { ...close, gap: Float64Array.of(Number.NaN) }, { name })).toThrow(
    'gap',
  )
})

test('a reference whose blocks the plan does not keep or skip whole is refused', () => {
  const coarse = { ...close, blockK: 128, kept: Uint8Array.of(1, 0), scores: Float64Array.of(5, 1) }
  expect(() => expectSelectionClose(plan([0, 1]), coarse, { name })).not.toThrow()
  expect(() => expectSelectionClose(plan([0]), coarse, { name })).toThrow('keeps 0.5 of block (0, 0)')
})

test('a reference of another geometry is refused', () => {
  expect(() => expectSelectionClose(plan([0]), { ...close, kept: new Uint8Array(3) }, { name })).toThrow(
    'kept has 3 blocks',
  )
  const { gap: _, ...gapless } = close
  expect(() => expectSelectionClose(plan([0]), gapless, { name })).toThrow('no gap')
})

test('the plan may be of stripes, and the reference of single keys', () => {
  const stripes: HostStripePlan = {
    ...{ kind: 'stripe', batch: 1, queryHeads: 1, queryLength: 64, keyLength: 4, blockQ: 64, causal: false, heads: 1 },
    lists: [{ width: 1, capacity: 3 }],
    counts: Int32Array.of(2),
    indices: Int32Array.of(0, 2, -1),
  }
  expectSelectionClose(stripes, { ...close, blockK: 1 }, { name, exact: true })
  const other = { ...stripes, indices: Int32Array.of(0, 3, -1) }
  expect(() => expectSelectionClose(other, { ...close, blockK: 1 }, { name, exact: true })).toThrow('{0,3}')
})

describe('a rule that decides once for a head', () => {
  /** Two row blocks of 64, 128 keys, causal; the chosen columns over the causal part, offset 0 in the diagonal tiles. */
  const geometry = { batch: 1, queryHeads: 1, queryLength: 128, keyLength: 128, causal: true }
  function stripes(columns: readonly number[], tiles: readonly (readonly number[])[] = [[0], [64]]): HostPlan {
    return {
      kind: 'stripe',
      ...geometry,
      blockQ: 64,
      heads: 1,
      lists: [
        { width: 64, capacity: 2 },
        { width: 1, capacity: 8 },
      ],
      counts: Int32Array.of(...tiles.map((row) => row.length), 0, columns.length),
      indices: Int32Array.from([
        ...tiles.flatMap((row) => [...row, ...new Array<number>(2 - row.length).fill(-1)]),
        ...new Array<number>(8).fill(-1),
        ...columns,
        ...new Array<number>(8 - columns.length).fill(-1),
      ]),
    }
  }
  const entries = (chosen: readonly number[]) => Uint8Array.from({ length: 128 }, (_, n) => Number(chosen.includes(n)))
  /** Columns 2 and 5 of scores 3 and 2 are chosen; that of 9 has nearly the score of 5, and column 7 a lower one. */
  function head(gap: number, forced: readonly number[] = []): ReferenceSelection {
    const kept = new Uint8Array(256)
    kept.fill(1, 0, 64)
    kept.fill(1, 128 + 64, 256)
    for (const column of [2, 5, ...forced]) kept[128 + column] = 1
    const scores = new Float64Array(128)
    scores[2] = 3
    scores[5] = 2
    scores[9] = 2 - gap
    scores[7] = 1
    const columns = {
      of: 'columns',
      kept: entries([2, 5]),
      forced: entries(forced),
      scores,
      gap: Float64Array.of(gap),
    } as const
    const far = { gap: Float64Array.of(Number.POSITIVE_INFINITY), scores: new Float64Array(128) }
    const diagonals = { of: 'diagonals', kept: entries([0]), forced: entries([0]), ...far } as const
    return { blockQ: 64, blockK: 1, kept, headRankings: [columns, diagonals] }
  }

  test('the same selection passes, and another one is refused where the gap is wide', () => {
    expectSelectionClose(stripes([2, 5]), head(1), { name, exact: true })
    expectSelectionClose(stripes([2, 5]), head(1e-6), { name, exact: true })
    expect(() => expectSelectionClose(stripes([2, 9]), head(1), { name })).toThrow('the selection must be the same')
    expect(() => expectSelectionClose(stripes([2, 5, 9]), head(1), { name })).toThrow('the selection must be the same')
  })

  test('a column of the same mass, or one more, passes in a close call, unless scores are exact', () => {
    expectSelectionClose(stripes([2, 9]), head(1e-6), { name })
    expectSelectionClose(stripes([2, 5, 9]), head(1e-6), { name })
    expect(() => expectSelectionClose(stripes([2, 9]), head(1e-6), { name, exact: true })).toThrow('must be the same')
  })

  test('less mass is refused in a close call', () => {
    expect(() => expectSelectionClose(stripes([2, 7]), head(1e-6), { name })).toThrow(
      'the columns it covers hold 0.125',
    )
    expect(() => expectSelectionClose(stripes([2]), head(1e-6), { name })).toThrow('the columns it covers hold 0.25')
  })

  test('a forced column or diagonal that one row misses is refused', () => {
    expect(() => expectSelectionClose(stripes([2, 9]), head(1e-6, [3]), { name })).toThrow('columns 3, which is forced')
    expectSelectionClose(stripes([2, 3, 9]), head(1e-6, [3]), { name })
    const shifted = stripes([2, 9], [[0], [63]])
    expect(() => expectSelectionClose(shifted, head(1e-6), { name })).toThrow('diagonals 0, which is forced')
  })

  test('rankings of heads need keys one by one', () => {
    expect(() => expectSelectionClose(stripes([2]), { ...head(1), blockK: 64 }, { name })).toThrow('need blockK 1')
  })
})
