import { createRuntime, type Runtime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { testMemory } from '../shared/test-memory.js'
import { selectClustersReference } from './reference.js'
import { selectClusters } from './select-clusters.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const random = createRandom(31)

interface Given {
  readonly queryBlocks?: number
  readonly keyBlocks: number
  readonly topP: number
  readonly fewest?: number
  readonly lastIsDense?: boolean
  readonly score: () => number
  readonly size?: () => number
}

/** Selects for two batch entries of four query heads on two KV heads; rows that are a close call must be few. */
async function check({ queryBlocks = 3, keyBlocks, topP, fewest = 0, lastIsDense = false, score, size }: Given) {
  const shape = { batch: 2, queryHeads: 4, kvHeads: 2 }
  const [queryLength, keyLength] = [queryBlocks, keyBlocks]
  const words = Math.ceil(keyBlocks / 32)
  const rows = 8 * queryBlocks
  using memory = testMemory(runtime)
  const scores = Float32Array.from({ length: rows * keyBlocks }, score)
  const sizes = Uint32Array.from({ length: 4 * keyBlocks }, size ?? (() => random.integer(0, 9)))
  const bitmap = memory.words(new Uint32Array(rows * words).fill(0xffffffff))
  const [queryStarts, keyStarts] = [memory.words(4), memory.words(4)]
  const geometry = { ...shape, queryLength, keyLength, causal: false, queryBlocks, keyBlocks, keyHeads: 2 }
  const plan = { kind: 'variable-block', ...geometry, bitmap, queryStarts, keyStarts } as const
  const record = await selectClusters(runtime)
  const rule = { topP, fewest, lastKeepsAll: lastIsDense, lastIsKept: lastIsDense }
  await memory.submit([record(shape, plan, memory.words(scores), memory.words(sizes), rule)])
  const bits = await memory.read(bitmap)
  let close = 0
  let count = 0
  for (let row = 0; row < rows; row++) {
    const head = Math.floor(row / queryBlocks)
    const kvHead = Math.floor(head / 2)
    const own = sizes.subarray(kvHead * keyBlocks, (kvHead + 1) * keyBlocks)
    const dense = lastIsDense && row % queryBlocks === queryBlocks - 1
    const expected = selectClustersReference(
      scores.subarray(row * keyBlocks, (row + 1) * keyBlocks),
      own,
      dense ? 1 : topP,
      fewest,
    )
    const kept = [...expected.kept]
    if (lastIsDense && own[keyBlocks - 1]! > 0) kept[keyBlocks - 1] = true
    const actual = Array.from(
      { length: words * 32 },
      (_, c) => ((bits[row * words + (c >> 5)]! >>> (c & 31)) & 1) === 1,
    )
    expect(actual.slice(keyBlocks)).not.toContain(true)
    count += kept.filter(Boolean).length
    // A sum of some hundred weights in float32 is within 1e-5 of its size, and so is exp.
    if (expected.gap > 0 && expected.gap < 1e-5 * expected.weights.reduce((a, b) => a + b, 0)) close++
    else expect(actual.slice(0, keyBlocks), `row ${row}`).toEqual(kept)
  }
  expect(close).toBeLessThan(rows / 4)
  return count
}

describe('selection of clusters', () => {
  test.each([0, 0.3, 0.9, 1])('equals the sorted reference, p %f', async (topP) => {
    await check({ keyBlocks: 150, topP, score: () => 2 * random.gaussian() })
    await check({ keyBlocks: 31, topP, fewest: 6, score: random.gaussian })
  })

  test('the first one, and the one that crosses p, are kept', async () => {
    // Weights are sizes: 8, 4, 2, 1, 1 of 16.
    const sizes = [1, 8, 2, 4, 1]
    let i = 0
    const given = { queryBlocks: 1, keyBlocks: 5, score: () => 0, size: () => sizes[i++ % 5]! }
    for (const [topP, kept] of [
      [0, 1],
      [0.49, 1],
      [0.5, 2],
      [0.75, 3],
      [0.76, 3],
      [0.875, 4],
      [0.9375, 5],
    ] as const) {
      expect(await check({ ...given, topP })).toBe(8 * kept)
    }
    expect(await check({ ...given, topP: 0, fewest: 4 })).toBe(8 * 4)
    expect(await check({ ...given, topP: 0, fewest: 9 })).toBe(8 * 5)
  })

  test('ties go to the lower index, more than a word of them', async () => {
    await check({ keyBlocks: 100, topP: 0.5, score: () => 1, size: () => 1 })
    await check({ keyBlocks: 100, topP: 0.5, fewest: 70, score: () => 1, size: () => random.integer(0, 1) })
  })

  test('a cluster without keys is not kept, and does not set the scale, however high it scores', async () => {
    let i = 0
    const kept = await check({
      ...{ keyBlocks: 40, topP: 0.5 },
      score: () => (i++ % 40 === 7 ? 1e30 : 0),
      size: (() => {
        let c = 0
        return () => (c++ % 40 === 7 ? 0 : 1)
      })(),
    })
    expect(kept).toBe(24 * 20) // of 39, the one that crosses a half too
  })

  test('the last cluster is kept by everyone and keeps everything', async () => {
    await check({
      keyBlocks: 70,
      topP: 0.2,
      lastIsDense: true,
      score: random.gaussian,
      size: () => random.integer(1, 5),
    })
  })

  test('NaN weighs nothing; huge scores, and rows without weight, keep something', async () => {
    await check({ keyBlocks: 50, topP: 0.6, score: () => (random.uniform() < 0.3 ? Number.NaN : random.gaussian()) })
    const all = await check({ keyBlocks: 50, topP: 0.6, score: () => Number.NaN, size: () => 1 })
    expect(all).toBe(24 * 50)
    const one = await check({ keyBlocks: 50, topP: 0.6, score: () => random.integer(-9, 9) * 1e30, size: () => 1 })
    expect(one).toBeGreaterThanOrEqual(24)
  })
})
