import { readFile } from 'node:fs/promises'
import { expect, test, vi } from 'vitest'
import { createHarness, expectSameOutputs } from '../test/harness.js'

// The project's own video model: attention without a mask over any number of tokens, in batches of one and two.
const file = new URL('../../models/checkpoints/drifters-7m/model.onnx', import.meta.url)

vi.setConfig({ testTimeout: 120_000 })

test('drifters-7m: all attentions are replaced, and dense attention gives what onnxruntime-web gives', async () => {
  const harness = await createHarness()
  const bytes = await readFile(file)
  await using model = await harness.load(bytes)
  const { pieces, attentions } = model.describe()
  expect(pieces).toBe(9)
  expect(attentions).toHaveLength(8)
  for (const { node } of attentions) {
    expect(node).toMatchObject({ queryHeads: 4, kvHeads: 4, headDim: 64, causal: false, masked: false })
    expect(node.obstacle).toBeUndefined()
  }
  for (const [batch, tokens] of [
    [2, 70],
    [1, 24],
  ] as const) {
    const wave = (count: number, rate: number) => Array.from({ length: count }, (_, i) => Math.sin(rate * i))
    const feeds = {
      latents: harness.tensor('float32', [batch, tokens, 24], wave(batch * tokens * 24, 0.7)),
      timestep: harness.tensor('float32', [batch], new Array(batch).fill(0.8)),
      code: harness.tensor('int64', [batch, 3], batch === 2 ? [1, 2, 3, 4, 6, 8] : [0, 5, 7]),
      rope_cos: harness.tensor('float32', [tokens, 32], wave(tokens * 32, 0.3)),
      rope_sin: harness.tensor('float32', [tokens, 32], wave(tokens * 32, 0.11)),
    }
    await expectSameOutputs(await model.run(feeds), await harness.reference(bytes, feeds))
  }
})
