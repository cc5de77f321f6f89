import { createRuntime } from '@sparse-attention/core'
import { makeInputs } from '@sparse-attention/testing'
import { expect, test } from 'vitest'
import { largestDifference, testFrame } from '../shared/test-frame.js'
import { sampledWeightsReference } from './reference.js'
import { sampledWeights } from './sampled-weights.js'

test('weights per key and per distance equal float64, also where scratch holds the scores of two heads of eight', async () => {
  using runtime = await createRuntime()
  const shape = { batch: 2, queryHeads: 4, kvHeads: 2, queryLength: 90, keyLength: 200, headDim: 32 }
  const inputs = makeInputs('stripes', shape, 'f32', 5)
  const config = { ...shape, dtype: 'f32', causal: true, scale: 0.25 } as const
  using frame = testFrame(runtime, shape, inputs, config)
  const rows = Array.from({ length: 64 }, (_, r) => 26 + r)
  const expected = sampledWeightsReference(shape, inputs.q, inputs.k, rows, config)
  for (const scoreBytes of [2 ** 20, 2 * 64 * 200 * 4 + 100, 1]) {
    const record = await sampledWeights(runtime, config, 'last', { scoreBytes })
    const [columns, diagonals] = [frame.memory([8, 200]), frame.memory([8, 200])]
    const dispatches = record(frame.frame, { count: 64 }, columns, diagonals)
    expect(dispatches.length).toBe(4 * (scoreBytes === 1 ? 8 : scoreBytes === 2 ** 20 ? 1 : 4))
    await frame.submit(dispatches)
    // Sums of 64 weights up to 1 whose logits, up to about 20, float32 rounds to 1e-6.
    expect(largestDifference(await frame.floats(columns), expected.columns)).toBeLessThan(1e-4)
    expect(largestDifference(await frame.floats(diagonals), expected.diagonals)).toBeLessThan(1e-4)
  }
})
