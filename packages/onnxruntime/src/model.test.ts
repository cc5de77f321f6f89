import { beforeAll, expect, test } from 'vitest'
import { createHarness, expectSameOutputs, type Harness } from '../test/harness.js'
import { tinyLlamaFeeds, tinyLlamaModel, tinyPrompt } from '../test/tiny-llama.js'

let harness: Harness
beforeAll(async () => {
  harness = await createHarness()
})

test.each([
  ['separate q, k and v', {}],
  ['packed q, k and v', { packed: true }],
  ['half of each head rotated', { rotaryWidth: 8 }],
])('a Llama with rotary and KV inputs, %s: prompt, then more tokens', async (_, options) => {
  const bytes = tinyLlamaModel(options)
  await using model = await harness.load(bytes)
  expect(model.describe()).toMatchObject({ provider: 'wasm', pieces: 3 })

  const feeds = tinyLlamaFeeds(harness, tinyPrompt)
  const expected = await harness.reference(bytes, feeds)
  await expectSameOutputs(await model.run(feeds), expected)

  for (const next of [[3], [5, 1, 8, 2, 9]]) {
    const more = tinyLlamaFeeds(harness, next, expected, 1)
    await expectSameOutputs(await model.run(more), await harness.reference(bytes, more))
  }
})
