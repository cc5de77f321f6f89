import {
  blockGrid,
  countPairs,
  type HostBlockPlan,
  type HostPlan,
  type HostStripePlan,
  planElements,
  Random,
  visiblePairs,
} from '@sparse-attention/core'

/** Length and heads of a plan of batch 1, query and keys of equal length. */
export interface PlanSize {
  readonly heads: number
  readonly length: number
  readonly causal: boolean
}

function geometry({ heads, length, causal }: PlanSize) {
  return { batch: 1, queryHeads: heads, queryLength: length, keyLength: length, causal }
}

/** Which of `count` blocks of keys row block `row` keeps, ascending or not. */
type ChooseBlocks = (random: Random, row: number, count: number) => Iterable<number>

function blockPlan(size: PlanSize, block: number, seed: number, choose: ChooseBlocks): HostBlockPlan {
  const plan = { kind: 'block', ...geometry(size), blockQ: block, blockK: block } as const
  const { queryBlocks, keyBlocks, wordsPerRow } = blockGrid(plan)
  const bitmap = new Uint32Array(planElements(plan).bitmap)
  const random = new Random(seed)
  for (let row = 0; row < size.heads * queryBlocks; row++) {
    for (const c of choose(random, row % queryBlocks, keyBlocks)) bitmap[row * wordsPerRow + (c >> 5)]! |= 1 << (c & 31)
  }
  return { ...plan, bitmap }
}

/** Every row of blocks keeps the same number of blocks, at random places. */
export function randomBlocks(size: PlanSize, block: number, density: number, seed: number): HostBlockPlan {
  return blockPlan(size, block, seed, (random, _, count) => sample(random, count, kept(count, density)))
}

/** Half of what a row keeps lies around the diagonal, as in a local window, the other half at random. */
export function diagonalBlocks(size: PlanSize, block: number, density: number, seed: number): HostBlockPlan {
  return blockPlan(size, block, seed, (random, row, count) => {
    const chosen = new Set<number>()
    const wanted = kept(count, density)
    const near = Math.ceil(wanted / 2)
    const first = Math.max(0, Math.min(count - near, row - (near >> 1)))
    for (let c = first; c < first + near; c++) chosen.add(c)
    while (chosen.size < wanted) chosen.add(random.integer(count))
    return chosen
  })
}

/** One row of blocks in `every` is dense, at random; the others keep a share of `density`. */
export function skewedBlocks(
  size: PlanSize,
  block: number,
  density: number,
  every: number,
  seed: number,
): HostBlockPlan {
  let full = new Set<number>()
  return blockPlan(size, block, seed, (random, row, count) => {
    if (row === 0) full = sample(random, count, kept(count, 1 / every)) // a head's first
    return full.has(row) ? Array.from({ length: count }, (_, c) => c) : sample(random, count, kept(count, density))
  })
}

/** Single key columns at random places, others for each block of queries. */
export function randomColumns(size: PlanSize, blockQ: number, density: number, seed: number): HostStripePlan {
  const columns = kept(size.length, density)
  const plan = {
    kind: 'stripe',
    ...geometry(size),
    ...{ blockQ, heads: size.heads },
    lists: [{ width: 1, capacity: columns }],
  } as const
  const { counts, indices } = planElements(plan)
  const made = { ...plan, counts: new Int32Array(counts).fill(columns), indices: new Int32Array(indices) }
  const random = new Random(seed)
  for (let row = 0; row < counts; row++) {
    made.indices.set(ascendingSample(random, size.length, columns), row * columns)
  }
  return made
}

const TILE = 64

/**
 * Vertical lines that all queries of a head see, and diagonals: tiles of 64 keys at fixed distances before each block of 64
 * queries, the nearest of them on the diagonal. Each makes about half of the plan.
 */
export function verticalsAndSlashes(size: PlanSize, density: number, seed: number): HostStripePlan {
  const { heads, length } = size
  const columns = kept(length, density / 2)
  const tiles = Math.max(1, Math.floor(kept(length, density / 2) / TILE))
  const plan = {
    kind: 'stripe',
    ...geometry(size),
    ...{ blockQ: TILE, heads },
    lists: [
      { width: TILE, capacity: tiles },
      { width: 1, capacity: columns },
    ],
  } as const
  const elements = planElements(plan)
  const counts = new Int32Array(elements.counts)
  const indices = new Int32Array(elements.indices).fill(-1)
  const blocks = Math.ceil(length / TILE)
  const random = new Random(seed)
  for (let head = 0; head < heads; head++) {
    const verticals = ascendingSample(random, length, columns)
    const distances = [...new Set([0, ...sample(random, blocks, tiles - 1)])].sort((a, b) => b - a)
    for (let block = 0; block < blocks; block++) {
      const row = head * blocks + block
      const covered = new Set<number>()
      let at = row * tiles
      for (const distance of distances) {
        const tile = block - distance
        if (tile < 0) continue
        covered.add(tile)
        indices[at++] = tile * TILE
        counts[row]!++
      }
      at = heads * blocks * tiles + row * columns
      for (const column of verticals) {
        if (column >= (block + 1) * TILE || covered.has(Math.floor(column / TILE))) continue
        indices[at++] = column
        counts[heads * blocks + row]!++
      }
    }
  }
  return { ...plan, counts, indices }
}

function kept(count: number, density: number): number {
  return Math.max(1, Math.round(count * density))
}

/** `wanted` different integers below `count`. */
function sample(random: Random, count: number, wanted: number): Set<number> {
  const chosen = new Set<number>()
  // Beyond a half it is faster to choose what is left out.
  if (wanted > count / 2) {
    const left = sample(random, count, count - wanted)
    for (let i = 0; i < count; i++) if (!left.has(i)) chosen.add(i)
    return chosen
  }
  while (chosen.size < wanted) chosen.add(random.integer(count))
  return chosen
}

/** The same in order, in one pass: each integer is taken with the chance that is left for it. */
function ascendingSample(random: Random, count: number, wanted: number): Int32Array {
  const chosen = new Int32Array(wanted)
  let taken = 0
  for (let i = 0; taken < wanted; i++) {
    if (random.fraction() * (count - i) < wanted - taken) chosen[taken++] = i
  }
  return chosen
}

/** Pairs that a plan keeps and that are visible: as `countPairs`, without sorting the millions of stripes of long inputs. */
export function planPairs(plan: HostPlan): { readonly kept: number; readonly visible: number } {
  if (plan.kind !== 'stripe') return countPairs(plan)
  const rows = Math.ceil(plan.queryLength / plan.blockQ)
  const group = plan.queryHeads / plan.heads
  const all = visiblePairs(plan, 0, plan.queryLength, 0, plan.keyLength)
  let pairs = 0
  let list = 0
  for (const [n, { width, capacity }] of plan.lists.entries()) {
    for (let row = 0; row < plan.batch * plan.heads * rows; row++) {
      const firstRow = (row % rows) * plan.blockQ
      const endRow = Math.min(firstRow + plan.blockQ, plan.queryLength)
      for (let i = 0; i < plan.counts[n * plan.batch * plan.heads * rows + row]!; i++) {
        const first = plan.indices[list + row * capacity + i]!
        pairs += visiblePairs(plan, firstRow, endRow, first, Math.min(first + width, plan.keyLength))
      }
    }
    list += plan.batch * plan.heads * rows * capacity
  }
  return { kept: pairs * group, visible: all * plan.batch * plan.queryHeads }
}
