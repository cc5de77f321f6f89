import { createRuntime, type DType, type Runtime } from '@sparse-attention/core'
import { createRandom, type Layout, roundTo, uploadTensor } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { testMemory } from '../shared/test-memory.js'
import { regionOrder, regionSums } from './grid-regions.js'
import { regionTokensReference } from './reference.js'
import {
  equalRegions,
  type GridRegions,
  regionCounts,
  regionOfTokens,
  regionRectangle,
  shiftedWindows,
} from './regions.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const cases: readonly [name: string, regions: GridRegions][] = [
  ['7 × 7 regions of 8 × 8', equalRegions([56, 56], 7)],
  ['sizes that 7 does not divide', equalRegions([17, 31], 7)],
  ['a grid of fewer rows than regions', equalRegions([3, 20], 7)],
  ['one token', equalRegions([1, 1], 7)],
  ['2 × 5 regions', equalRegions([9, 9], [2, 5])],
  ['windows', shiftedWindows([14, 21], 7, 0)],
  ['shifted windows', shiftedWindows([14, 21], 7, 3)],
  ['shifted windows that do not divide the grid', shiftedWindows([16, 9], 7, 3)],
]

describe('regions of a grid', () => {
  test.each(cases)('%s hold every token once', (_, regions) => {
    const { down, across, count } = regionCounts(regions)
    expect(down * across).toBe(count)
    const tokens = regionTokensReference(regions)
    expect(tokens.every((list) => list.length > 0)).toBe(true)
    expect(tokens.flat().sort((a, b) => a - b)).toEqual(
      Array.from({ length: regions.height * regions.width }, (_, i) => i),
    )
    const region = regionOfTokens(regions)
    tokens.forEach((list, r) => {
      for (const token of list) expect(region[token]).toBe(r)
    })
  })

  test('regions that do not divide the grid are as if it were padded, less what is padding', () => {
    const regions = equalRegions([9, 14], 7) // padded to 14 rows, of which regions 5 and 6 are padding
    expect(regionCounts(regions)).toEqual({ down: 5, across: 7, count: 35 })
    expect(regionRectangle(regions, 34)).toEqual({ top: 8, bottom: 9, left: 12, right: 14 })
    expect(regionCounts(equalRegions([3, 2], 7)).count).toBe(6)
  })

  test('shifted windows are rolled windows whose seam is masked', () => {
    const [height, width, size, shift] = [14, 21, 7, 3]
    const region = regionOfTokens(shiftedWindows([height, width], size, shift))
    // Swin's mask: the rolled grid is cut into windows, and by three slices a side into pieces that do not see each other.
    const slice = (at: number, length: number) => (at < length - size ? 0 : at < length - shift ? 1 : 2)
    const rolled = Array.from({ length: height * width }, (_, token) => {
      const y = (Math.floor(token / width) - shift + height) % height
      const x = ((token % width) - shift + width) % width
      return `${Math.floor(y / size)},${Math.floor(x / size)},${slice(y, height)},${slice(x, width)}`
    })
    const differ: [number, number][] = []
    rolled.forEach((piece, i) => {
      for (let j = 0; j < i; j++) if ((region[i] === region[j]) !== (piece === rolled[j])) differ.push([i, j])
    })
    expect(differ).toEqual([])
  })

  test.each(cases)('order and starts: %s', async (_, regions) => {
    using memory = testMemory(runtime)
    const record = await regionOrder(runtime)
    const tokens = regionTokensReference(regions)
    const length = tokens.flat().length
    const order = memory.words(3 * length)
    const starts = memory.words(3 * (tokens.length + 1))
    await memory.submit(record(regions, { order, starts, copies: 3 }))
    const places = tokens.flat()
    const thrice = (list: readonly number[]) => [...list, ...list, ...list]
    expect([...(await memory.read(order))]).toEqual(thrice(places))
    const ends = tokens.map((_, r) => tokens.slice(0, r + 1).flat().length)
    expect([...(await memory.read(starts))]).toEqual(thrice([0, ...ends]))
  })

  test.each<[DType, number, Layout]>([
    ['f32', 32, 'BLHD'],
    ['f16', 80, 'BHLD'],
    ['f32', 256, 'BHLD'],
    ['f16', 8, 'BLHD'],
  ])('sums of integers are exact: %s, head_dim %i, %s', async (dtype, headDim, layout) => {
    const random = createRandom(7)
    const regions = equalRegions([9, 16], [4, 7])
    const length = 9 * 16
    using memory = testMemory(runtime)
    const values = roundTo(
      dtype,
      Float64Array.from({ length: 2 * 3 * length * headDim }, () => random.integer(-9, 9)),
    )
    using x = uploadTensor(runtime, dtype, [2, 3, length, headDim], values, layout)
    const tokens = regionTokensReference(regions)
    const sums = memory.words(6 * tokens.length * headDim)
    const record = await regionSums(runtime, { dtype, headDim })
    await memory.submit(record(x, regions, sums))
    const expected = Array.from({ length: 6 }, (_, head) =>
      tokens.map((list) =>
        Array.from({ length: headDim }, (_, d) =>
          list.reduce((sum, token) => sum + values[(head * length + token) * headDim + d]!, 0),
        ),
      ),
    ).flat(2)
    expect([...new Float32Array((await memory.read(sums)).buffer)]).toEqual(expected)
  })

  test('refuses regions that are not of the tensor, and memory that is too small', async () => {
    using memory = testMemory(runtime)
    const [order, sums] = await Promise.all([regionOrder(runtime), regionSums(runtime, { dtype: 'f32', headDim: 8 })])
    using x = runtime.tensor('f32', [1, 1, 12, 8])
    const at = (regions: GridRegions, words: number) => () => sums(x, regions, memory.words(words))
    expect(at(equalRegions([3, 4], 2), 32)).not.toThrow()
    expect(at(equalRegions([3, 4], 2), 31)).toThrow(expect.objectContaining({ code: 'BUFFER_TOO_SMALL' }))
    expect(at(equalRegions([3, 5], 2), 99)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
    expect(at({ ...equalRegions([3, 4], 2), cutTop: 2 }, 99)).toThrow(expect.objectContaining({ where: 'regions' }))
    const words = memory.words(12)
    expect(() => order(equalRegions([3, 4], 2), { order: words, starts: words, copies: 2 })).toThrow(
      expect.objectContaining({ code: 'BUFFER_TOO_SMALL', where: 'order' }),
    )
  })
})
