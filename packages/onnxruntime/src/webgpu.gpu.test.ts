import { dense } from '@sparse-attention/kernels'
import { trackBuffers } from '@sparse-attention/testing'
import type { InferenceSession, Tensor } from 'onnxruntime-web'
import { beforeAll, expect, test, vi } from 'vitest'
import { node, uniform, value } from '../test/build.js'
import { createHarness, expectSameOutputs, type Harness } from '../test/harness.js'
import { tinyLlamaFeeds, tinyLlamaModel, tinyPrompt } from '../test/tiny-llama.js'
import { writtenOutModel } from '../test/written-out.js'
import { AttentionModel, type Ort } from './index.js'

// onnxruntime-web's WebGPU provider and our attention on one device. Tiny: it also runs on software adapters, where
// compiling onnxruntime-web's shaders takes most of the time.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 })

let harness: Harness
let model: AttentionModel
const tensors = { made: 0, alive: 0 }

beforeAll(async () => {
  harness = await createHarness('webgpu')
  const ort = countGpuTensors(harness.ort)
  model = await AttentionModel.load(harness.runtime, ort, bytes, {
    provider: 'webgpu',
    attention: () => dense(),
    preferredOutputLocation: { logits: 'gpu-buffer' },
  })
  return () => model.dispose()
})

const bytes = tinyLlamaModel()

/** Counts the tensors that sessions leave on the GPU and that nobody has freed. */
function countGpuTensors({ InferenceSession, Tensor }: Ort): Ort {
  const create = async (...args: Parameters<typeof InferenceSession.create>): Promise<InferenceSession> => {
    const session = await InferenceSession.create(...args)
    const run = session.run.bind(session) as (...args: unknown[]) => Promise<Record<string, Tensor>>
    session.run = async (...args: unknown[]) => {
      const outputs = await run(...args)
      for (const tensor of Object.values(outputs)) {
        if (tensor.location !== 'gpu-buffer') continue
        tensors.made++
        tensors.alive++
        const dispose = tensor.dispose.bind(tensor)
        tensor.dispose = () => {
          tensors.alive--
          dispose()
        }
      }
      return outputs
    }
    return session
  }
  return { InferenceSession: { create } as typeof InferenceSession, Tensor }
}

function dispose(outputs: Readonly<Record<string, Tensor>>): void {
  for (const tensor of Object.values(outputs)) tensor.dispose()
}

test('prompt, then more tokens with the past left on the GPU', async () => {
  expect(model.describe()).toMatchObject({ provider: 'webgpu', pieces: 3 })
  const feeds = tinyLlamaFeeds(harness, tinyPrompt)
  const expected = await harness.reference(bytes, feeds)
  const outputs = await model.run(feeds)
  for (const tensor of Object.values(outputs)) expect(tensor.location).toBe('gpu-buffer')

  const next = await model.run(tinyLlamaFeeds(harness, [3, 5, 1], outputs))
  await expectSameOutputs(next, await harness.reference(bytes, tinyLlamaFeeds(harness, [3, 5, 1], expected)))
  await expectSameOutputs(outputs, expected)
  dispose(next)
  dispose(outputs)
})

test('between prompt and logits nothing is read back, and every tensor on the GPU is freed', async () => {
  tensors.made = tensors.alive = 0
  using buffers = trackBuffers(harness.runtime.device)
  const outputs = await model.run(tinyLlamaFeeds(harness, tinyPrompt))
  expect(buffers.maps).toBe(0)
  // logits, and present keys and values of two layers
  expect(tensors.alive).toBe(5)
  expect(tensors.made).toBeGreaterThan(5)
  await outputs.logits!.getData()
  expect(buffers.maps).toBe(1)
  dispose(outputs)
  expect(tensors.alive).toBe(0)
})

test('outputs that are not asked for are freed, and one run takes no more memory than the next', async () => {
  tensors.alive = 0
  const feeds = tinyLlamaFeeds(harness, tinyPrompt)
  const run = async () => dispose(await model.run(feeds, { outputs: ['logits'] }))
  await run()
  using buffers = trackBuffers(harness.runtime.device)
  for (let i = 0; i < 3; i++) await run()
  expect([buffers.live, tensors.alive]).toEqual([0, 0])
})

test.each([
  ['fails', new Error('enough'), undefined],
  ['is cancelled', new Error('too slow'), new AbortController()],
])('a run that %s frees what it made', async (_, reason, controller) => {
  tensors.made = tensors.alive = 0
  const onAttention = () => {
    if (!controller) throw reason
    controller.abort(reason)
  }
  const options = { onAttention, ...(controller ? { signal: controller.signal } : {}) }
  await expect(model.run(tinyLlamaFeeds(harness, tinyPrompt), options)).rejects.toBe(reason)
  expect(tensors.made).toBeGreaterThan(0)
  expect(tensors.alive).toBe(0)
})

test('with a cache on the GPU, a prompt and more tokens give what one pass gives, and nothing is read back', async () => {
  await using cached = await harness.load(bytes, { cache: true, preferredOutputLocation: 'gpu-buffer' })
  using cache = await cached.createCache({ capacity: 64 })
  const all = [...tinyPrompt, 3]
  const { logits: expected } = await harness.reference(bytes, tinyLlamaFeeds(harness, all, {}, 1))
  const feeds = (ids: readonly number[], keys: number) => ({
    input_ids: harness.tensor('int64', [1, ids.length], ids),
    attention_mask: harness.tensor('int64', [1, keys], new Array(keys).fill(1)),
    num_logits_to_keep: harness.tensor('int64', [], [1]),
  })
  dispose(await cached.run(feeds(tinyPrompt, tinyPrompt.length), { cache }))
  using buffers = trackBuffers(harness.runtime.device)
  const { logits } = await cached.run(feeds([3], all.length), { cache })
  expect(buffers.maps).toBe(0)
  await expectSameOutputs({ logits: logits! }, { logits: expected! })
  dispose({ logits: logits! })
})

test('attention that is written out, with a mask', async () => {
  const parts = writtenOutModel({
    kvHeads: 2,
    maskInputs: [value('mask', 'f32', ['queries', 'keys'])],
    mask: (scores) => ({ nodes: [node('Add', [scores, 'mask'], 'masked')], masked: 'masked' }),
  })
  await using written = await harness.load(parts)
  const [queries, keys] = [5, 9]
  const floats = (seed: number, length: number, width: number) =>
    harness.tensor('float32', [1, length, width], uniform(seed, length * width))
  const hidden = (at: number) => (at % keys > Math.floor(at / keys) + keys - queries ? -1e9 : 0)
  const mask = Array.from({ length: queries * keys }, (_, at) => hidden(at))
  const feeds = {
    q: floats(1, queries, 32),
    k: floats(2, keys, 16),
    v: floats(3, keys, 16),
    mask: harness.tensor('float32', [queries, keys], mask),
  }
  await expectSameOutputs(await written.run(feeds), await harness.reference(parts, feeds))
})
