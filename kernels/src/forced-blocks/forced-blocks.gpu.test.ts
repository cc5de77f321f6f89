import { blockGrid, createRuntime, hasBlock, type Runtime } from '@sparse-attention/core'
import { makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { newBlockPlan } from '../shared/block-plan.js'
import { testFrame } from '../shared/test-frame.js'
import { forcedBlocks } from './forced-blocks.js'
import { forcedBlockReference } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

const cases = [
  { queryLength: 300, keyLength: 300, causal: true, sinkBlocks: 1, diagonal: true },
  { queryLength: 200, keyLength: 3000, causal: true, sinkBlocks: 2, diagonal: true },
  { queryLength: 300, keyLength: 130, causal: true, sinkBlocks: 1, diagonal: true },
  { queryLength: 70, keyLength: 2300, causal: false, sinkBlocks: 3, diagonal: true },
  { queryLength: 300, keyLength: 300, causal: true, sinkBlocks: 1, diagonal: true, localWindow: 64 },
  { queryLength: 300, keyLength: 333, causal: true, sinkBlocks: 0, diagonal: true, localWindow: 65 },
  { queryLength: 70, keyLength: 2300, causal: false, sinkBlocks: 0, diagonal: true, localWindow: 1000 },
  { queryLength: 300, keyLength: 130, causal: true, sinkBlocks: 0, diagonal: true, localWindow: 4096 },
  { queryLength: 70, keyLength: 2300, causal: false, sinkBlocks: 0, diagonal: false },
]

test.each(cases)(
  'forced blocks of $queryLength × $keyLength, causal $causal, sink $sinkBlocks, window $localWindow',
  async (options) => {
    const shape = { batch: 2, queryHeads: 2, kvHeads: 1, headDim: 8, ...options }
    using frame = testFrame(runtime, shape, makeInputs('gaussian', shape, 'f32', 1), {
      dtype: 'f32',
      scale: 1,
      ...options,
    })
    const record = await forcedBlocks(runtime, options.causal, options)
    const plan = newBlockPlan(frame.frame, 64, 64)
    await frame.submit([record(plan)])
    const host = { ...plan, bitmap: await frame.words(plan.bitmap) }
    const { queryBlocks, wordsPerRow } = blockGrid(plan)
    for (let head = 0; head < 4; head++) {
      for (let a = 0; a < queryBlocks; a++) {
        // Bits past the last key block are checked too: they must be clear.
        for (let c = 0; c < wordsPerRow * 32; c++) {
          const actual = hasBlock(host, head >> 1, head & 1, a, c)
          expect(actual, `head ${head}, block (${a}, ${c})`).toBe(forcedBlockReference(plan, a, c, options))
        }
      }
    }
  },
)
