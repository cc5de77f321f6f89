import {
  type BlockPlanData,
  blockGrid,
  createRuntime,
  denseMask,
  type HostBlockPlan,
  type Runtime,
} from '@sparse-attention/core'
import { expectAttentionClose, makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { testFrame } from '../shared/test-frame.js'
import { skippingFlashAttention, skipTile } from './flash-attention.js'
import { skipReference } from './skip-reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const shape = { batch: 1, queryHeads: 2, kvHeads: 1, queryLength: 150, keyLength: 400, headDim: 32 }
const { batch, queryHeads, queryLength, keyLength, headDim } = shape

interface Result {
  readonly kept: HostBlockPlan
  readonly expected: ReturnType<typeof skipReference>
  readonly actual: { readonly out: Float32Array; readonly lse: Float32Array }
  readonly inputs: ReturnType<typeof makeInputs>
}

async function run(causal: boolean, threshold: number, now: boolean, given?: HostBlockPlan): Promise<Result> {
  const inputs = makeInputs('stripes', shape, 'f32', 9)
  using frame = testFrame(runtime, shape, inputs, { dtype: 'f32', causal, scale: 0.25 })
  const attend = await skippingFlashAttention(runtime, {
    ...{ queryHeads, kvHeads: 1, headDim, dtype: 'f32', causal, scale: 0.25 },
  })
  const tile = skipTile(headDim)
  const form = {
    kind: 'block',
    batch,
    queryHeads,
    queryLength,
    keyLength,
    causal,
    blockQ: tile.rows,
    blockK: tile.keys,
  } as const
  const { queryBlocks, wordsPerRow } = blockGrid(form)
  const words = queryHeads * queryBlocks * wordsPerRow
  // Garbage: the kernel must not count on zeros.
  const bitmap = frame.memory([words], new Float32Array(Uint32Array.from({ length: words }, () => 0x5a5a5a5a).buffer))
  const kept: BlockPlanData = { ...form, bitmap }
  const plan = given && {
    ...given,
    bitmap: frame.memory([given.bitmap.length], new Float32Array(given.bitmap.slice().buffer)),
  }
  await frame.submit(attend(frame.frame, plan ?? { kind: 'dense' }, { threshold, now }, kept))
  const expected = skipReference({
    ...shape,
    ...inputs,
    causal,
    scale: 0.25,
    tile,
    threshold,
    ...(given && { plan: given }),
  })
  const read = (name: 'out' | 'lse') => runtime.read(frame.frame[name])
  return {
    kept: { ...form, bitmap: (await frame.words(bitmap)).slice(0, words) },
    expected,
    actual: { out: await read('out'), lse: await read('lse') },
    inputs,
  }
}

const check = ({ actual, inputs }: Result, mask: Uint8Array, name: string) =>
  expectAttentionClose(actual, { ...shape, ...inputs, scale: 0.25, mask, dtype: 'f32', name })

test.each([false, true])('tiles far below the maximum are marked and left out, causal %s', async (causal) => {
  const result = await run(causal, -6, true)
  // float64 and float32 may differ where a score is this close to the threshold; these inputs have no such score.
  expect(result.expected.margin).toBeGreaterThan(1e-4)
  expect(result.kept.bitmap).toEqual(result.expected.bitmap)
  const { computed, visible } = result.expected
  expect(computed).toBeLessThan(0.8 * visible)
  expect(computed).toBeGreaterThan(0.05 * visible)
  check(result, denseMask(result.kept), 'left out')
})

test('marks alone leave nothing out', async () => {
  const result = await run(true, -6, false)
  expect(result.kept.bitmap).toEqual(result.expected.bitmap)
  const everything = { ...result.kept, bitmap: new Uint32Array(result.kept.bitmap.length).fill(0xffffffff) }
  check(result, denseMask(everything), 'marked')
})

test('within a plan: what it leaves out is neither computed nor marked', async () => {
  const first = await run(false, -6, true)
  const result = await run(false, -3, true, first.kept)
  expect(result.expected.margin).toBeGreaterThan(1e-4) // as above
  expect(result.kept.bitmap).toEqual(result.expected.bitmap)
  expect(result.expected.computed).toBeLessThan(first.expected.computed)
  for (const [i, word] of result.kept.bitmap.entries()) expect(word & ~first.kept.bitmap[i]!).toBe(0)
  check(result, denseMask(result.kept), 'within a plan')
})

test('a threshold below every difference keeps everything', async () => {
  const result = await run(true, -1e6, true)
  expect(result.expected.computed).toBe(result.expected.visible)
  expect(result.kept.bitmap).toEqual(result.expected.bitmap)
})
