import { createRuntime, type DType, type Runtime } from '@sparse-attention/core'
import { createRandom, roundTo } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { testFrame } from '../shared/test-frame.js'
import { testMemory } from '../shared/test-memory.js'
import { headProfile } from './head-profile.js'
import { headErrorsReference, temporalPosition } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const random = createRandom(51)
const video = { frames: 4, frameLength: 21 }
const [length, rows] = [90, [3, 20, 40, 70, 83]]

/** Queries and keys that wear codes of their frame, or of their place; the rest is noise. */
function planted(kind: 'spatial' | 'temporal' | 'none', headDim: number): number[] {
  const codes = Array.from({ length: 30 * headDim }, random.gaussian)
  return Array.from({ length: length * headDim }, (_, i) => {
    const token = Math.floor(i / headDim)
    const code = kind === 'spatial' ? Math.floor(token / video.frameLength) : token % video.frameLength
    return (kind === 'none' ? 0 : 2 * codes[code * headDim + (i % headDim)]!) + 0.5 * random.gaussian()
  })
}

async function check(
  dtype: DType,
  headDim: number,
  kinds: readonly ('spatial' | 'temporal' | 'none')[],
  kvHeads: number,
) {
  const heads = kinds.length
  const shape = { batch: 1, queryHeads: heads, kvHeads, queryLength: length, keyLength: length, headDim }
  const own = kinds.map((kind) => planted(kind, headDim))
  const rounded = (values: number[]) => Float64Array.from(roundTo(dtype, Float64Array.from(values)))
  const q = rounded(own.flat())
  const k = rounded(own.filter((_, h) => h % (heads / kvHeads) === 0).flat())
  const v = rounded(Array.from({ length: kvHeads * length * headDim }, random.gaussian))
  const masks = { block: 8, reach: 2 }
  const scale = 1 / Math.sqrt(headDim)
  using frame = testFrame(runtime, shape, { q, k, v }, { dtype, causal: false, scale })
  using memory = testMemory(runtime)
  const order = memory.words(heads * length)
  const record = await headProfile(runtime, { dtype, headDim })
  const indices = memory.words(Int32Array.from(rows))
  await frame.submit(record(frame.frame, video, masks, { count: rows.length, indices }, order))
  const found = await memory.read(order)
  return kinds.map((_, h) => {
    const kvHead = Math.floor((h * kvHeads) / heads)
    const part = (x: Float64Array, at: number) => x.subarray(at * length * headDim, (at + 1) * length * headDim)
    const problem = { q: part(q, h), k: part(k, kvHead), v: part(v, kvHead), headDim, scale, ...video, ...masks }
    const errors = headErrorsReference(problem, rows)
    const [spatial, temporal] = (['spatial', 'temporal'] as const).map((kind) =>
      errors.reduce((sum, e) => sum + e[kind], 0),
    )
    // No decision of these is closer than rounding.
    expect(Math.abs(spatial! - temporal!)).toBeGreaterThan(1e-3 * spatial!)
    const expected = Array.from({ length }, (_, token) => token)
    if (temporal! < spatial!) {
      for (let token = 0; token < length; token++)
        expected[temporalPosition(token, video.frames, video.frameLength)] = token
    }
    expect([...found.subarray(h * length, (h + 1) * length)], `head ${h}`).toEqual(expected)
    return temporal! < spatial! ? 'temporal' : 'spatial'
  })
}

describe('head profile', () => {
  test('planted heads are told apart, in the order that the float64 errors say', async () => {
    expect(await check('f32', 16, ['spatial', 'temporal', 'spatial', 'temporal'], 4)).toEqual([
      'spatial',
      'temporal',
      'spatial',
      'temporal',
    ])
    await check('f16', 80, ['temporal', 'none', 'spatial', 'none'], 2)
    await check('f32', 256, ['none', 'temporal'], 1)
  })

  test('a tie is spatial: nothing but one frame', async () => {
    using memory = testMemory(runtime)
    const shape = { batch: 1, queryHeads: 1, kvHeads: 1, queryLength: 40, keyLength: 40, headDim: 8 }
    const values = () => Float64Array.from({ length: 40 * 8 }, random.gaussian)
    const inputs = { q: values(), k: values(), v: values() }
    using frame = testFrame(runtime, shape, inputs, { dtype: 'f32', causal: false, scale: 1 })
    const order = memory.words(40)
    const record = await headProfile(runtime, { dtype: 'f32', headDim: 8 })
    const rowsOfFrame = { count: 2, indices: memory.words(Int32Array.of(0, 39)) }
    // Two frames of twenty in blocks larger than both: both masks keep everything.
    const all = record(frame.frame, { frames: 2, frameLength: 20 }, { block: 64, reach: 1 }, rowsOfFrame, order)
    await frame.submit(all)
    expect([...(await memory.read(order))]).toEqual(Array.from({ length: 40 }, (_, i) => i))
    expect(() =>
      record(frame.frame, { frames: 3, frameLength: 20 }, { block: 8, reach: 1 }, rowsOfFrame, order),
    ).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', where: 'frameLength' }))
  })
})
