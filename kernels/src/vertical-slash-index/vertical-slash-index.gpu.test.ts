import { createRuntime, type Runtime, type StripePlanData } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { testMemory } from '../shared/test-memory.js'
import { verticalSlashIndexReference } from './reference.js'
import { newVerticalSlashPlan, verticalSlashIndex } from './vertical-slash-index.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

interface Case {
  readonly queryLength: number
  readonly keyLength: number
  /** Of each head, ascending. */
  readonly verticals: readonly (readonly number[])[]
  readonly slashes: readonly (readonly number[])[]
}

/** Converts, checks padding, and returns tiles and columns [heads][query blocks]. */
async function convert({
  queryLength,
  keyLength,
  verticals,
  slashes,
}: Case): Promise<{ tiles: number[]; columns: number[] }[][]> {
  using memory = testMemory(runtime)
  const heads = verticals.length
  const lists = (rows: readonly (readonly number[])[]) => {
    const capacity = Math.max(1, ...rows.map((row) => row.length))
    const padded = rows.flatMap((row) => [...row, ...new Array<number>(capacity - row.length).fill(-1)])
    const counts = memory.words(Int32Array.from(rows, (row) => row.length))
    return { capacity, counts, indices: memory.words(Int32Array.from(padded)) }
  }
  const [verticalLists, slashLists] = [lists(verticals), lists(slashes)]
  const shape = { batch: 1, queryHeads: heads, queryLength, keyLength, causal: true }
  const frame = { ...shape, planBuffer: memory.scratch } as unknown as Parameters<typeof newVerticalSlashPlan>[0]
  const plan: StripePlanData = newVerticalSlashPlan(frame, verticalLists.capacity, slashLists.capacity)
  const record = await verticalSlashIndex(runtime)
  await memory.submit(record(memory, plan, verticalLists, slashLists))
  const counts = new Int32Array((await memory.read(plan.counts)).buffer)
  const indices = new Int32Array((await memory.read(plan.indices)).buffer)
  const blocks = Math.ceil(queryLength / 64)
  let first = 0
  const read = plan.lists.map(({ capacity }, list) =>
    Array.from({ length: heads * blocks }, (_, row) => {
      const entries = [...indices.subarray(first, first + capacity)]
      first += capacity
      const count = counts[list * heads * blocks + row]!
      expect(
        entries.slice(count).every((entry) => entry === -1),
        'padding',
      ).toBe(true)
      return entries.slice(0, count)
    }),
  )
  return Array.from({ length: heads }, (_, h) =>
    Array.from({ length: blocks }, (_, a) => ({
      tiles: read[0]![h * blocks + a]!,
      columns: read[1]![h * blocks + a]!,
    })),
  )
}

test('overlapping slashes share tiles, columns inside of them are dropped', async () => {
  const verticals = [[0, 3, 40, 100, 130, 200]]
  const slashes = [[0, 1, 60, 150, 300]]
  const [rows] = await convert({ queryLength: 256, keyLength: 256, verticals, slashes })
  expect(rows![3]).toEqual({ tiles: [42, 128, 192], columns: [0, 3, 40] })
  expect(rows![2]).toEqual({ tiles: [64, 128], columns: [...Array(42).keys()] }) // a tile from −22 on
  expect(rows![0]).toEqual({ tiles: [0], columns: [] })
})

/** Entries that are drawn with a share of them below `length`, ascending; `first` are always in. */
function draw(random: ReturnType<typeof createRandom>, length: number, share: number, first: number): number[] {
  return Array.from({ length }, (_, i) => i).filter((i) => i < first || random.uniform() < share)
}

test.each([
  [500, 500, 1],
  [1, 1, 1],
  [63, 63, 1],
  [130, 777, 1],
  [300, 130, 1],
  [300, 411, 0],
])(
  '%i × %i equals the reference and covers every pair that is asked for, once; offset 0 in: %i',
  async (queryLength, keyLength, first) => {
    const random = createRandom(queryLength + keyLength)
    const shares = [0, 0.01, 0.1, 0.9, 1]
    const verticals = shares.map((share) => draw(random, keyLength, share, 0))
    const slashes = [...shares].reverse().map((share) => draw(random, keyLength, share, first))
    const heads = await convert({ queryLength, keyLength, verticals, slashes })
    for (const [h, rows] of heads.entries()) {
      for (const [a, row] of rows.entries()) {
        const end = (a + 1) * 64 + keyLength - queryLength
        expect(row, `head ${h}, row block ${a}`).toEqual(verticalSlashIndexReference(verticals[h]!, slashes[h]!, end))
        if (first > 0 && end >= 64) {
          const before = row.columns.every((key) => key < end - 64)
          expect(before, 'columns lie before the rows').toBe(true)
        }
        const times = new Uint8Array(keyLength + 64)
        for (const key of row.tiles) for (let i = 0; i < 64; i++) times[key + i]!++
        for (const key of row.columns) times[key]!++
        expect(Math.max(...times), 'stripes are disjoint').toBeLessThanOrEqual(1)
        for (let position = Math.max(0, end - 64); position < Math.min(end, keyLength); position++) {
          const asked = [...verticals[h]!, ...slashes[h]!.map((o) => position - o)]
          for (const key of asked)
            if (key >= 0 && key <= position && times[key] !== 1)
              throw new Error(`pair (${position}, ${key}) of head ${h} is missing`)
        }
      }
    }
  },
)

test('plans of another form and short lists are refused', async () => {
  using memory = testMemory(runtime)
  const record = await verticalSlashIndex(runtime)
  const frame = { batch: 1, queryHeads: 2, queryLength: 70, keyLength: 70, causal: true, planBuffer: memory.scratch }
  const plan = newVerticalSlashPlan(frame as unknown as Parameters<typeof newVerticalSlashPlan>[0], 4, 4)
  const lists = { capacity: 4, counts: memory.words(2), indices: memory.words(8) }
  expect(() => record(memory, { ...plan, blockQ: 128 }, lists, lists)).toThrow(
    expect.objectContaining({ code: 'INVALID_ARGUMENT', where: 'plan.blockQ' }),
  )
  expect(() => record(memory, plan, { ...lists, capacity: 5 }, lists)).toThrow(
    expect.objectContaining({ code: 'BUFFER_TOO_SMALL', where: 'verticals.indices' }),
  )
})
