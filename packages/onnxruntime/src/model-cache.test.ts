import { readFile } from 'node:fs/promises'
import { relativeError } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { trackBuffers } from '@sparse-attention/testing'
import type { Tensor } from 'onnxruntime-web'
import { beforeAll, describe, expect, test, vi } from 'vitest'
import { node, model as onnx, value } from '../test/build.js'
import { createHarness, type Harness } from '../test/harness.js'
import { readExport } from '../test/read-export.js'
import { tinyLlama, tinyLlamaFeeds, tinyLlamaModel, tinyPrompt } from '../test/tiny-llama.js'
import type { AttentionEvent, AttentionModel, ModelCache } from './index.js'

vi.setConfig({ testTimeout: 120_000 })

let harness: Harness
beforeAll(async () => {
  harness = await createHarness()
})

// Scores and sums in another order than in one pass over all tokens: a few hundred float32 roundings of 6e-8.
const TOLERANCE = 2e-5

interface Case {
  readonly bytes: Uint8Array
  /** Sizes of a past key: [batch, kvHeads, 0, headDim]. */
  readonly past: readonly [number, number, number, number]
  readonly vocabulary: number
  /** Feeds of tokens after `past` others, without past keys and values. */
  feeds(ids: readonly number[], past: number): Record<string, Tensor>
}

const exported = async (name: string): Promise<Case> => ({
  bytes: (await readExport(harness, name)).bytes,
  past: [2, 2, 0, 8],
  vocabulary: 48,
  feeds: (ids) => ({
    input_ids: harness.tensor('int64', [2, ids.length], [...ids, ...ids.map((id) => (id * 5 + 1) % 48)]),
  }),
})

const decoder = (bytes: Uint8Array, headDim: number, vocabulary: number): Case => ({
  bytes,
  past: [1, 2, 0, headDim],
  vocabulary,
  feeds: (ids, past) => ({
    input_ids: harness.tensor('int64', [1, ids.length], ids),
    attention_mask: harness.tensor('int64', [1, past + ids.length], new Array(past + ids.length).fill(1)),
    num_logits_to_keep: harness.tensor('int64', [], [0]),
  }),
})

const bookworm = new URL('../../models/checkpoints/bookworm-9m/model.onnx', import.meta.url)

const cases: [string, () => Promise<Case>][] = [
  ['a Llama of GroupQueryAttention', async () => decoder(tinyLlamaModel(), tinyLlama.headDim, tinyLlama.vocabulary)],
  ['bookworm-9m', async () => decoder(await readFile(bookworm), 64, 4096)],
  ['a Llama of TorchScript', () => exported('llama-cache-sdpa-script-17')],
  ['a Llama of torch.export', () => exported('llama-cache-eager-dynamo-18')],
]

/** Logits of each position, from the whole model on onnxruntime-web. */
async function wholeLogits({ bytes, past, feeds }: Case, ids: readonly number[]): Promise<Tensor> {
  await using model = await harness.load(bytes, { attention: () => 'keep' })
  const pasts = model.inputNames.filter((name) => name.startsWith('past'))
  const empty = Object.fromEntries(pasts.map((name) => [name, harness.tensor('float32', past, [])]))
  return (await model.run({ ...feeds(ids, 0), ...empty }, { outputs: ['logits'] })).logits!
}

/** Logits of positions [from, to) of [batch, length, vocabulary]. */
function positions({ dims, data }: Tensor, from: number, to: number): Float32Array {
  const [batch, length, width] = dims as [number, number, number]
  const parts = Array.from({ length: batch }, (_, b) =>
    (data as Float32Array).subarray((b * length + from) * width, (b * length + to) * width),
  )
  return Float32Array.from(parts.flatMap((part) => [...part]))
}

test.each(cases)('%s: a prompt, then token by token, gives what one pass over all gives', async (_, make) => {
  const given = await make()
  const ids = Array.from({ length: 21 }, (_, i) => (i * 37 + 5) % given.vocabulary)
  const whole = await wholeLogits(given, ids)
  await using model = await harness.load(given.bytes, { cache: true })
  expect([...model.inputNames, ...model.outputNames].filter((name) => /past|present/.test(name))).toEqual([])
  using cache = await model.createCache({ capacity: 32, batch: given.past[0] })
  let from = 0
  for (const count of [15, 1, 1, 3, 1]) {
    const { logits } = await model.run(given.feeds(ids.slice(from, from + count), from), { cache })
    const expected = positions(whole, from, from + count)
    expect(relativeError(logits!.data as Float32Array, expected), `tokens ${from} on`).toBeLessThan(TOLERANCE)
    from += count
    expect(cache.length).toBe(from)
  }
})

/** Runs the model and counts bytes that are uploaded, copied or allocated. */
async function bytesOf(run: () => Promise<unknown>): Promise<{ moved: number; created: number }> {
  const { device } = harness.runtime
  const { writeBuffer } = device.queue
  const { createCommandEncoder } = device
  let moved = 0
  device.queue.writeBuffer = (...args: Parameters<typeof writeBuffer>) => {
    moved += args[4] ?? args[2].byteLength
    writeBuffer.apply(device.queue, args)
  }
  device.createCommandEncoder = (...args) => {
    const encoder = createCommandEncoder.apply(device, args)
    const { copyBufferToBuffer } = encoder as { copyBufferToBuffer(...args: unknown[]): void }
    Object.assign(encoder, {
      copyBufferToBuffer(...args: unknown[]) {
        moved += args[4] as number
        copyBufferToBuffer.apply(encoder, args)
      },
    })
    return encoder
  }
  using buffers = trackBuffers(device)
  try {
    await run()
  } finally {
    device.queue.writeBuffer = writeBuffer
    device.createCommandEncoder = createCommandEncoder
  }
  return { moved, created: buffers.created }
}

describe('a token', () => {
  const next = async (model: AttentionModel, cache: ModelCache, feeds: Case['feeds']) =>
    bytesOf(() => model.run(feeds([3], cache.length), { cache, outputs: ['logits'] }))

  test('moves as many bytes after 60 others as after 5', async () => {
    const { bytes, feeds } = decoder(tinyLlamaModel(), tinyLlama.headDim, tinyLlama.vocabulary)
    await using model = await harness.load(bytes, { cache: true })
    using cache = await model.createCache({ capacity: 80 })
    await model.run(feeds([1, 2, 3, 4], 0), { cache })
    await next(model, cache, feeds)
    const early = await next(model, cache, feeds)
    using buffers = trackBuffers(harness.runtime.device)
    while (cache.length < 60) await next(model, cache, feeds)
    // Uniforms of each length are kept by the runtime; nothing else stays.
    expect(buffers.liveBytes).toBeLessThan(60 * tinyLlama.layers * 256)
    const late = await next(model, cache, feeds)
    expect(late).toEqual(early)
    // Both layers' query, key, value and output, and uniforms: less than one layer's keys of 60 tokens.
    expect(late.moved).toBeLessThan(60 * tinyLlama.kvHeads * tinyLlama.headDim * 4)
  })
})

describe('the cache', () => {
  const load = async () => {
    const { bytes, feeds } = decoder(tinyLlamaModel(), tinyLlama.headDim, tinyLlama.vocabulary)
    return { model: await harness.load(bytes, { cache: true }), feeds }
  }
  const logitsOf = async (model: AttentionModel, cache: ModelCache, feeds: Record<string, Tensor>) =>
    (await model.run(feeds, { cache })).logits!.data as Float32Array

  test('may be cut back, reset, and kept beside another', async () => {
    const { model, feeds } = await load()
    await using _ = model
    using first = await model.createCache({ capacity: 40 })
    using second = await model.createCache({ capacity: 40 })
    await logitsOf(model, first, feeds(tinyPrompt, 0))
    await logitsOf(model, second, feeds([9, 8, 7], 0))
    const expected = await logitsOf(model, first, feeds([5], tinyPrompt.length))
    await logitsOf(model, second, feeds([6], 3))
    first.truncate(tinyPrompt.length)
    expect(await logitsOf(model, first, feeds([5], tinyPrompt.length))).toEqual(expected)
    first.reset()
    await logitsOf(model, first, feeds(tinyPrompt, 0))
    expect(await logitsOf(model, first, feeds([5], tinyPrompt.length))).toEqual(expected)
    expect([first.length, second.length]).toEqual([tinyPrompt.length + 1, 4])
    for (const length of [-1, 0.5, 39]) {
      expect(() => first.truncate(length)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
    }
  })

  test('that is full refuses more, and a run that fails or is cancelled leaves it as it was', async () => {
    const { model, feeds } = await load()
    await using _ = model
    using cache = await model.createCache({ capacity: 6 })
    const first = await logitsOf(model, cache, feeds([1, 2, 3, 4], 0))
    expect(first.length).toBeGreaterThan(0)
    await expect(model.run(feeds([5, 6, 7], 4), { cache })).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
      message: expect.stringContaining('3 more tokens do not fit a KV cache that holds 4 of at most 6'),
    })
    const onAttention = ({ node }: AttentionEvent) => {
      if (node.layer === 1) throw new Error('enough')
    }
    await expect(model.run(feeds([5], 4), { cache, onAttention })).rejects.toThrow('enough')
    expect(cache.length).toBe(4)
    const again = await logitsOf(model, cache, feeds([5], 4))
    using other = await model.createCache({ capacity: 6 })
    await logitsOf(model, other, feeds([1, 2, 3, 4], 0))
    expect(await logitsOf(model, other, feeds([5], 4))).toEqual(again)
  })

  test('of another batch, of another model, disposed, missing or not wanted: a typed error', async () => {
    const { model, feeds } = await load()
    await using _ = model
    const { model: second } = await load()
    await using other = second
    using pair = await model.createCache({ capacity: 8, batch: 2 })
    await expect(model.run(feeds([1], 0), { cache: pair })).rejects.toMatchObject({ code: 'INVALID_SHAPE', where: 'k' })
    using foreign = await other.createCache({ capacity: 8 })
    const refused = { code: 'INVALID_ARGUMENT', where: 'cache' }
    await expect(model.run(feeds([1], 0), { cache: foreign })).rejects.toMatchObject(refused)
    await expect(model.run(feeds([1], 0))).rejects.toMatchObject(refused)
    const gone = await model.createCache({ capacity: 8 })
    gone.dispose()
    gone.dispose()
    await expect(model.run(feeds([1], 0), { cache: gone })).rejects.toMatchObject({ code: 'DISPOSED' })
    await using without = await harness.load(tinyLlamaModel())
    await expect(without.createCache({ capacity: 8 })).rejects.toMatchObject(refused)
    await expect(without.run(tinyLlamaFeeds(harness, [1]), { cache: pair })).rejects.toMatchObject(refused)
    await expect(model.createCache({ capacity: 0 })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })

  test('is refused by a model that has no past', async () => {
    const { bytes } = await readExport(harness, 'whisper-sdpa-dynamo-18')
    await expect(harness.load(bytes, { cache: true })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('nothing to cache'),
    })
  })

  test('is refused by a model that computes with its past', async () => {
    const past = ['past_key', 'past_value']
    const bytes = onnx({
      opset: 23,
      input: ['q', ...past].map((name) => value(name, 'f32', ['batch', 2, `${name}_length`, 8])),
      output: [value('y', 'f32'), value('sum', 'f32')],
      node: [
        node('Attention', ['q', 'q', 'q', '', ...past], ['out', 'present_key', 'present_value']),
        node('Neg', ['out'], 'y'),
        node('ReduceSum', ['past_key'], 'sum'),
      ],
    })
    await expect(harness.load(bytes, { cache: true, attention: () => dense() })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining("its past 'past_key' is needed by other nodes"),
    })
  })
})
