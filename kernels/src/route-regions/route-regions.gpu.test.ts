import { createRuntime, type Runtime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { equalRegions, type GridRegions, regionCounts, regionRectangle } from '../grid-regions/regions.js'
import { testMemory } from '../shared/test-memory.js'
import { topRoutesReference } from './reference.js'
import { routeRegions } from './route-regions.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const headDim = 16
const random = createRandom(3)

interface Routing {
  readonly regions: GridRegions
  readonly heads: readonly [query: number, kv: number]
  readonly together: number
  readonly topK: number
  readonly q: (i: number) => number
  readonly k: (i: number) => number
  readonly on?: Runtime
}

/** Routes a batch of two and compares each row with the reference; returns the routes. */
async function check({ regions, heads: [queryHeads, kvHeads], together, topK, q, k, on = runtime }: Routing) {
  const { count } = regionCounts(regions)
  const words = Math.ceil(count / 32)
  using memory = testMemory(on)
  const qSums = Float32Array.from({ length: 2 * queryHeads * count * headDim }, (_, i) => q(i))
  const kSums = Float32Array.from({ length: 2 * kvHeads * count * headDim }, (_, i) => k(i))
  const bitmap = memory.words(new Uint32Array(2 * queryHeads * count * words).fill(0xdeadbeef))
  const record = await routeRegions(on, { headDim })
  const shape = { batch: 2, queryHeads, kvHeads }
  const dispatches = record(
    shape,
    { regions, topK, headsTogether: together },
    memory.words(qSums),
    memory.words(kSums),
    bitmap,
  )
  await memory.submit(dispatches)
  const bits = await memory.read(bitmap)
  const sizes = Array.from({ length: count }, (_, c) => {
    const { top, bottom, left, right } = regionRectangle(regions, c)
    return (bottom - top) * (right - left)
  })
  const all: number[][] = []
  for (let head = 0; head < 2 * queryHeads; head++) {
    const first = Math.floor(head / together) * together
    for (let r = 0; r < count; r++) {
      const affinity = sizes.map((size, c) => {
        let sum = 0
        for (let h = first; h < first + together; h++) {
          const kvHead = Math.floor((h * kvHeads) / queryHeads)
          for (let d = 0; d < headDim; d++) {
            sum += qSums[(h * count + r) * headDim + d]! * kSums[(kvHead * count + c) * headDim + d]!
          }
        }
        return sum / size
      })
      const row = (head * count + r) * words
      const routes = Array.from({ length: words * 32 }, (_, c) => c).filter(
        (c) => (bits[row + (c >> 5)]! >>> (c & 31)) & 1,
      )
      const expected = topRoutesReference(affinity, topK).sort((a, b) => a - b)
      expect(routes, `head ${head}, region ${r}`).toEqual(expected)
      all.push(routes)
    }
  }
  return { routes: all, dispatches: dispatches.length }
}

const integer = () => random.integer(-9, 9)

describe('routes between regions', () => {
  test.each<[string, GridRegions, readonly [number, number], number, number]>([
    ['7 × 7, one routing for all heads', equalRegions([14, 14], 7), [4, 4], 4, 4],
    ['one for each head, grouped', equalRegions([14, 14], 7), [4, 2], 1, 5],
    ['regions of four sizes', equalRegions([17, 11], [5, 4]), [2, 1], 2, 3],
    ['more than 64 regions, in three words', equalRegions([20, 8], [10, 8]), [1, 1], 1, 16],
    ['k above the number of regions', equalRegions([4, 3], 7), [2, 2], 2, 999],
    ['one region', equalRegions([1, 1], 7), [1, 1], 1, 1],
  ])('%s: integers give exactly the routes of the reference', async (_, regions, heads, together, topK) => {
    await check({ regions, heads, together, topK, q: integer, k: integer })
  })

  test('ties go to the lower index, between regions of different sizes too', async () => {
    const regions = equalRegions([5, 5], 2) // 9, 6, 6 and 4 tokens
    const sizes = [9, 6, 6, 4]
    const ofSize = (i: number) => sizes[Math.floor(i / headDim) % 4]! // means of 1
    const { routes } = await check({ regions, heads: [1, 1], together: 1, topK: 2, q: () => 3, k: ofSize })
    expect(new Set(routes.map(String))).toEqual(new Set(['0,1']))
  })

  test('NaN ranks last, work cut into several dispatches gives the same', async () => {
    const regions = equalRegions([6, 6], 3)
    const given: Routing = {
      regions,
      heads: [2, 1],
      together: 1,
      topK: 7,
      q: integer,
      k: (i) => (Math.floor(i / headDim) % 3 === 1 ? Number.NaN : ((i * 7919) % 19) - 9),
    }
    await check(given)
    using cutting = await createRuntime({ device: runtime.device, work: { operationsPerDispatch: 5000 } })
    expect((await check({ ...given, on: cutting })).dispatches).toBeGreaterThan(1)
  })

  test('refuses what it cannot route', async () => {
    using memory = testMemory(runtime)
    const record = await routeRegions(runtime, { headDim })
    const shape = { batch: 1, queryHeads: 4, kvHeads: 2 }
    const words = memory.words(4 * 4 * headDim)
    const attempt =
      (given: { regions?: GridRegions; topK?: number; headsTogether?: number }, sums = words) =>
      () =>
        record(shape, { regions: equalRegions([4, 4], 2), topK: 1, headsTogether: 4, ...given }, sums, words, words)
    expect(attempt({})).not.toThrow()
    expect(attempt({ headsTogether: 3 })).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
    expect(attempt({ topK: 0 })).toThrow(expect.objectContaining({ where: 'topK' }))
    expect(attempt({ regions: equalRegions([33, 32], 33) })).toThrow(expect.objectContaining({ where: 'regions' }))
    expect(attempt({ regions: { ...equalRegions([4, 4], 2), cutLeft: 1 } })).toThrow(
      expect.objectContaining({ where: 'regions' }),
    )
    expect(attempt({}, memory.words(8))).toThrow(expect.objectContaining({ code: 'BUFFER_TOO_SMALL', where: 'qSums' }))
  })
})
