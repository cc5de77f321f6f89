import { blockGrid, createRuntime, hasBlock, type Runtime } from '@sparse-attention/core'
import { makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { newBlockPlan } from '../shared/block-plan.js'
import { testFrame } from '../shared/test-frame.js'
import { type Band, bandBlocks } from './band-blocks.js'
import { bandBlockReference } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

test.each<[string, Band]>([
  ['the diagonal', { reach: 0 }],
  ['a wide band', { reach: 7 }],
  ['first keys, a block and one', { reach: 1, firstKeys: 65 }],
  ['text that begins in the middle of a block', { reach: 1, denseFrom: 2480 }],
  ['text of the last block', { reach: 2, firstKeys: 64, denseFrom: 2496 }],
])('%s', async (_, band) => {
  const shape = { batch: 2, queryHeads: 2, kvHeads: 1, queryLength: 2500, keyLength: 2500, headDim: 8 }
  const config = { dtype: 'f32', causal: false, scale: 1 } as const
  using frame = testFrame(runtime, shape, makeInputs('zero-queries', shape, 'f32', 1), config)
  const plan = newBlockPlan(frame.frame, 64, 64)
  await frame.submit([(await bandBlocks(runtime))(plan, band)])
  const host = { ...plan, bitmap: await frame.words(plan.bitmap) }
  const { queryBlocks, keyBlocks } = blockGrid(plan)
  for (const [b, h] of [
    [0, 0],
    [1, 1],
  ] as const) {
    for (let a = 0; a < queryBlocks; a++) {
      const row = Array.from({ length: keyBlocks + 3 }, (_, c) => hasBlock(host, b, h, a, c))
      const expected = Array.from(
        { length: keyBlocks + 3 },
        (_, c) => c < keyBlocks && bandBlockReference(plan, a, c, band),
      )
      expect(row, `row ${a}`).toEqual(expected)
    }
  }
})
