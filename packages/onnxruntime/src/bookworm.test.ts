import { readFile } from 'node:fs/promises'
import type { Tensor } from 'onnxruntime-web'
import { expect, test, vi } from 'vitest'
import { createHarness, expectSameOutputs } from '../test/harness.js'

// The project's own demo model: a real export with int8 weights, 8 layers and rotary tables that are computed.
const file = new URL('../../models/checkpoints/bookworm-9m/model.onnx', import.meta.url)
const LAYERS = 8

vi.setConfig({ testTimeout: 300_000 })

test('bookworm-9m: dense attention gives what onnxruntime-web gives, for a prompt and the next token', async () => {
  const harness = await createHarness()
  const bytes = await readFile(file)
  await using model = await harness.load(bytes)
  expect(model.describe()).toMatchObject({ pieces: LAYERS + 1 })

  const feed = (ids: number[], past: Readonly<Record<string, Tensor>>) => {
    const total = (past['present.0.key']?.dims[2] ?? 0) + ids.length
    const feeds: Record<string, Tensor> = {
      input_ids: harness.tensor('int64', [1, ids.length], ids),
      attention_mask: harness.tensor('int64', [1, total], new Array(total).fill(1)),
      num_logits_to_keep: harness.tensor('int64', [], [0]),
    }
    for (let layer = 0; layer < LAYERS; layer++) {
      for (const part of ['key', 'value']) {
        const name = `${layer}.${part}`
        feeds[`past_key_values.${name}`] = past[`present.${name}`] ?? harness.tensor('float32', [1, 2, 0, 64], [])
      }
    }
    return feeds
  }
  const prompt = feed(
    Array.from({ length: 90 }, (_, i) => (i * 37) % 4096),
    {},
  )
  const outputs = await model.run(prompt)
  await expectSameOutputs(outputs, await harness.reference(bytes, prompt))
  const next = feed([17], outputs)
  await expectSameOutputs(await model.run(next), await harness.reference(bytes, next))
})
