import type { Tensor } from 'onnxruntime-web'
import { beforeAll, expect, test } from 'vitest'
import { createHarness, expectSameOutputs, type Harness } from '../test/harness.js'
import { tinyLlama, tinyLlamaModel } from '../test/tiny-llama.js'

let harness: Harness
beforeAll(async () => {
  harness = await createHarness()
})

function llamaFeeds(ids: readonly number[], past: Readonly<Record<string, Tensor>> = {}, keep = 0) {
  const { layers, kvHeads, headDim } = tinyLlama
  const pastLength = past['present.0.key']?.dims[2] ?? 0
  const feeds: Record<string, Tensor> = {
    input_ids: harness.tensor('int64', [1, ids.length], ids),
    attention_mask: harness.tensor('int64', [1, pastLength + ids.length], new Array(pastLength + ids.length).fill(1)),
    num_logits_to_keep: harness.tensor('int64', [], [keep]),
  }
  for (let i = 0; i < layers; i++) {
    for (const part of ['key', 'value']) {
      const empty = () => harness.tensor('float32', [1, kvHeads, 0, headDim], [])
      feeds[`past_key_values.${i}.${part}`] = past[`present.${i}.${part}`] ?? empty()
    }
  }
  return feeds
}

const prompt = Array.from({ length: 37 }, (_, i) => (i * 7 + (i >> 2)) % tinyLlama.vocabulary)

test.each([
  ['separate q, k and v', {}],
  ['packed q, k and v', { packed: true }],
  ['half of each head rotated', { rotaryWidth: 8 }],
])('a Llama with rotary and KV inputs, %s: prompt, then more tokens', async (_, options) => {
  const bytes = tinyLlamaModel(options)
  await using model = await harness.load(bytes)
  expect(model.describe()).toMatchObject({ provider: 'wasm', pieces: 3 })

  const feeds = llamaFeeds(prompt)
  const expected = await harness.reference(bytes, feeds)
  await expectSameOutputs(await model.run(feeds), expected)

  for (const next of [[3], [5, 1, 8, 2, 9]]) {
    const more = llamaFeeds(next, expected, 1)
    await expectSameOutputs(await model.run(more), await harness.reference(bytes, more))
  }
})
