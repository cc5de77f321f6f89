import { trackBuffers } from '@sparse-attention/testing'
import type { Tensor } from 'onnxruntime-web'
import { beforeAll, expect, test } from 'vitest'
import { createHarness, expectSameOutputs, type Harness } from '../test/harness.js'
import { tinyLlamaFeeds, tinyLlamaModel, tinyPrompt } from '../test/tiny-llama.js'

// onnxruntime-web's WebGPU provider and our attention on one device. Tiny: it also runs on software adapters.
let harness: Harness
beforeAll(async () => {
  harness = await createHarness('webgpu')
})

const bytes = tinyLlamaModel()

function dispose(outputs: Readonly<Record<string, Tensor>>): void {
  for (const tensor of Object.values(outputs)) tensor.dispose()
}

test('prompt, then more tokens with the past left on the GPU', async () => {
  await using model = await harness.load(bytes)
  expect(model.describe()).toMatchObject({ provider: 'webgpu', pieces: 3 })
  const feeds = tinyLlamaFeeds(harness, tinyPrompt)
  const expected = await harness.reference(bytes, feeds)
  const outputs = await model.run(feeds)
  expect(outputs.logits!.location).toBe('cpu')
  expect(outputs['present.0.key']!.location).toBe('gpu-buffer')

  const more = tinyLlamaFeeds(harness, [3, 5, 1], outputs)
  const next = await model.run(more)
  await expectSameOutputs(next, await harness.reference(bytes, tinyLlamaFeeds(harness, [3, 5, 1], expected)))
  await expectSameOutputs(outputs, expected)
  dispose(next)
  dispose(outputs)
})

test('between prompt and logits nothing is read back', async () => {
  await using model = await harness.load(bytes, { preferredOutputLocation: 'gpu-buffer' })
  using buffers = trackBuffers(harness.runtime.device)
  const outputs = await model.run(tinyLlamaFeeds(harness, tinyPrompt))
  expect(buffers.maps).toBe(0)
  await outputs.logits!.getData(true)
  expect(buffers.maps).toBe(1)
  dispose(outputs)
})
