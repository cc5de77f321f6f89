import { pagedKVCache, sinkWindow } from '@sparse-attention/decode'
import { dense } from '@sparse-attention/kernels'
import { xattention } from '@sparse-attention/prefill'
import { beforeAll, describe, expect, test, vi } from 'vitest'
import { node, model as onnx, value } from '../../test/build.js'
import { createHarness, type Harness } from '../../test/harness.js'
import { tinyLlama, tinyLlamaFeeds, tinyLlamaModel, tinyPrompt } from '../../test/tiny-llama.js'
import type { AttentionModel, GeneratedToken, GenerateOptions, Generation } from '../index.js'
import { argmax } from './sampling.js'

vi.setConfig({ testTimeout: 120_000 })

const bytes = tinyLlamaModel()
let harness: Harness
let model: AttentionModel
beforeAll(async () => {
  harness = await createHarness()
  model = await harness.load(bytes, { cache: true })
  return () => model.dispose()
})

async function collect(generation: AsyncIterable<GeneratedToken>): Promise<GeneratedToken[]> {
  const tokens: GeneratedToken[] = []
  for await (const token of generation) tokens.push(token)
  return tokens
}

const write = async (prompt: readonly number[], options: GenerateOptions) =>
  (await collect(model.generate(prompt, options))).map(({ token }) => token)

/** Greedy decoding on the whole model, all tokens anew each time. */
async function greedy(prompt: readonly number[], count: number): Promise<{ tokens: number[]; logs: number[] }> {
  const [tokens, logs] = [[] as number[], [] as number[]]
  while (tokens.length < count) {
    const feeds = tinyLlamaFeeds(harness, [...prompt, ...tokens], {}, 1)
    const { logits } = await harness.reference(bytes, feeds)
    const row = Array.from(logits!.data as Float32Array)
    const token = argmax(row)
    tokens.push(token)
    logs.push(row[token]! - Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0)))
  }
  return { tokens, logs }
}

describe('generate', () => {
  test('writes what greedy decoding without a cache writes, with its probabilities', async () => {
    const { tokens, logs } = await greedy(tinyPrompt, 6)
    const generation = model.generate(tinyPrompt, { maxNewTokens: 6 })
    expect(generation.finishReason).toBeUndefined()
    const written = await collect(generation)
    expect(written.map(({ token }) => token)).toEqual(tokens)
    // Logits of a few units, sums in another order: a few hundred roundings of 6e-8.
    for (const [i, { logProbability }] of written.entries()) expect(logProbability).toBeCloseTo(logs[i]!, 4)
    expect(written.every((token) => !('statistics' in token || 'hostTimes' in token))).toBe(true)
    expect(generation.finishReason).toBe('length')
    expect(() => generation[Symbol.asyncIterator]()).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  })

  test('writes the same for a seed, and something else for another', async () => {
    const options = { maxNewTokens: 8, temperature: 1, topK: 12 }
    const first = await write(tinyPrompt, { ...options, seed: 1 })
    expect(await write(tinyPrompt, { ...options, seed: 1 })).toEqual(first)
    expect(await write(tinyPrompt, { ...options, seed: 2 })).not.toEqual(first)
  })

  test('stops behind a token or a run of tokens, which are written', async () => {
    const { tokens } = await greedy(tinyPrompt, 6)
    const at = tokens.findIndex((token, i) => i > 0 && tokens.indexOf(token) === i)
    const until = async (stop: GenerateOptions['stop']) => {
      const generation = model.generate(tinyPrompt, { maxNewTokens: 6, stop: stop! })
      return [(await collect(generation)).map(({ token }) => token), generation.finishReason]
    }
    expect(await until({ tokens: [tokens[at]!] })).toEqual([tokens.slice(0, at + 1), 'stop'])
    expect(await until({ sequences: [[99], tokens.slice(at - 1, at + 1)] })).toEqual([tokens.slice(0, at + 1), 'stop'])
    expect(await until({ sequences: [[...tokens, 1]] })).toEqual([tokens, 'length'])
  })
})

describe('a conversation', () => {
  test('goes on from its cache, reading only what is new', async () => {
    using cache = await model.createCache({ capacity: 64 })
    const first = await write(tinyPrompt, { cache, maxNewTokens: 3 })
    // The last token is read with the next prompt.
    expect(cache.length).toBe(tinyPrompt.length + 2)
    const second = await write([4, 2], { cache, maxNewTokens: 3 })
    expect(cache.length).toBe(tinyPrompt.length + 3 + 2 + 2)
    const { tokens } = await greedy([...tinyPrompt, ...first, 4, 2], 3)
    expect(second).toEqual(tokens)
    // Nothing but what has been written.
    expect(await write([], { cache, maxNewTokens: 1 })).toEqual(
      (await greedy([...tinyPrompt, ...first, 4, 2, ...tokens], 1)).tokens,
    )
  })

  test('makes tokens of earlier turns less likely too, and those that were cut no more', async () => {
    using cache = await model.createCache({ capacity: 64 })
    // So much that no token comes twice.
    const options = { maxNewTokens: 4, repetitionPenalty: 50 }
    const first = await write(tinyPrompt, { ...options, cache })
    const turn = [4, 2]
    const length = cache.length
    expect(await write(turn, { ...options, cache })).toEqual(await write([...tinyPrompt, ...first, ...turn], options))
    cache.truncate(length)
    expect(await write(turn, { ...options, cache })).toEqual(
      await write([...tinyPrompt, ...first.slice(0, -1), ...turn], options),
    )
  })

  test.each<[string, (generation: Generation, controller: AbortController) => Promise<void>]>([
    [
      'is left',
      async (generation) => {
        for await (const _ of generation) break
      },
    ],
    [
      'is cancelled',
      async (generation, controller) => {
        const reading = (async () => {
          for await (const _ of generation) controller.abort(new Error('enough'))
        })()
        await expect(reading).rejects.toThrow('enough')
      },
    ],
  ])('that %s keeps what has been written', async (_, leave) => {
    using cache = await model.createCache({ capacity: 64 })
    const controller = new AbortController()
    await leave(model.generate(tinyPrompt, { cache, maxNewTokens: 9, signal: controller.signal }), controller)
    expect(cache.length).toBe(tinyPrompt.length)
    const { tokens } = await greedy(tinyPrompt, 3)
    expect(await write([], { cache, maxNewTokens: 2 })).toEqual(tokens.slice(1))
  })

  test('that fails in its prompt is as it was before', async () => {
    using cache = await model.createCache({ capacity: 64 })
    const [first] = await write(tinyPrompt, { cache, maxNewTokens: 1 })
    const failing = {
      ...dense(),
      method: { ...dense().method, id: 'failing', create: () => Promise.reject(new Error('no')) },
    }
    await expect(write([7], { cache, maxNewTokens: 1, attention: failing })).rejects.toThrow('no')
    expect(cache.length).toBe(tinyPrompt.length)
    expect(await write([], { cache, maxNewTokens: 1 })).toEqual([(await greedy([...tinyPrompt, first!], 1)).tokens[0]])
  })
})

test('tells density and keys per query of every n-th run, by another method than the model was loaded with', async () => {
  const attention = { prefill: xattention({ threshold: 0.5 }), decode: dense({ kernel: 'split' }) }
  const options = { maxNewTokens: 4, statisticsEvery: 3, attention }
  const prompt = Array.from({ length: 80 }, (_, i) => (i * 7) % tinyLlama.vocabulary)
  const [first, second, , fourth] = await collect(model.generate(prompt, options))
  expect(second!.statistics).toBeUndefined()
  const { layers, density } = first!.statistics!
  expect(layers.map(({ layer, method, path }) => [layer, method, path])).toEqual([
    [0, 'xattention', 'sparse'],
    [1, 'xattention', 'sparse'],
  ])
  // Blocks of 64: of two rows, the first has one block.
  expect(density).toBeGreaterThan(0.5)
  expect(density).toBeLessThanOrEqual(1)
  expect(layers[0]!.attentionMs).toBeGreaterThan(0)
  expect(fourth!.statistics).toMatchObject({
    density: 1,
    layers: [{ method: 'dense', keysPerQuery: 83 }, { density: 1 }],
  })
  const later = await collect(model.generate(prompt, { ...options, statisticsFrom: 2 }))
  const keys = later.map(({ statistics }) => statistics?.layers.map((layer) => layer.keysPerQuery))
  expect(keys).toEqual([undefined, undefined, [82, 82], undefined])
})

test('tells what each part of a run took, and nothing where it is not asked for', async () => {
  const before = performance.now()
  const tokens = await collect(model.generate(tinyPrompt, { maxNewTokens: 2, hostTimes: true }))
  const passed = performance.now() - before
  let sum = 0
  for (const { hostTimes } of tokens) {
    const { captured, piecesMs, attentionsMs, logitsMs } = hostTimes!
    expect([captured, piecesMs.length, attentionsMs.length]).toEqual([false, model.describe().pieces, 2])
    for (const ms of [...piecesMs, ...attentionsMs]) expect(ms).toBeGreaterThan(0)
    expect(logitsMs).toBeGreaterThanOrEqual(0)
    sum += [...piecesMs, ...attentionsMs, logitsMs].reduce((a, b) => a + b, 0)
  }
  expect(sum).toBeLessThanOrEqual(passed)
})

test('writes from pages what it writes from tensors, turn after turn, where the method can read them and where it cannot', async () => {
  await using paged = await harness.load(bytes, {
    cache: { pageSize: 16 },
    attention: () => ({ prefill: xattention({ threshold: 1 }), decode: sinkWindow({ localWindow: 4096 }) }),
  })
  using cache = await paged.createCache({
    capacity: 96,
    kvCache: (runtime, config) => pagedKVCache(runtime, { ...config, pageSize: 16 }),
  })
  const turn = async (prompt: readonly number[]) =>
    collect(paged.generate(prompt, { cache, maxNewTokens: 3, statisticsEvery: 1 }))
  const first = await turn(tinyPrompt)
  const second = await turn([4, 2])
  const ids = (tokens: readonly GeneratedToken[]) => tokens.map(({ token }) => token)
  const expected = await greedy(tinyPrompt, 3)
  expect(ids(first)).toEqual(expected.tokens)
  expect(ids(second)).toEqual((await greedy([...tinyPrompt, ...expected.tokens, 4, 2], 3)).tokens)
  const methods = [...first, ...second].map(({ statistics }) => statistics!.layers[0]!.method)
  // XAttention cannot read pages, so a prompt behind a past is left to exact attention.
  expect(methods).toEqual(['xattention', 'sink-window', 'sink-window', 'dense', 'sink-window', 'sink-window'])
})

describe('refuses, before it runs anything,', () => {
  const refused = (code: string, where: string) => expect.objectContaining({ code, where })

  test('wrong options, prompts that are none, and more than fits', async () => {
    using cache = await model.createCache({ capacity: 8 })
    const start =
      (prompt: number[], options: GenerateOptions = {}) =>
      () =>
        model.generate(prompt, options)
    expect(start([1], { topP: 7 })).toThrow(refused('INVALID_OPTION', 'topP'))
    expect(start([])).toThrow(refused('INVALID_ARGUMENT', 'prompt'))
    for (const id of [-1, 0.5, tinyLlama.vocabulary]) {
      expect(start([id])).toThrow(refused('INVALID_ARGUMENT', 'prompt'))
    }
    expect(start([1, 2, 3], { cache, maxNewTokens: 7 })).toThrow(refused('LIMIT_EXCEEDED', 'maxNewTokens'))
    expect(await write([1, 2, 3], { cache, maxNewTokens: 6 })).toHaveLength(6)
    expect(start([1], { cache, maxNewTokens: 1 })).toThrow(refused('LIMIT_EXCEEDED', 'maxNewTokens'))
  })

  test('a second text on one cache, caches of batches, and an aborted signal', async () => {
    using cache = await model.createCache({ capacity: 256 })
    using pair = await model.createCache({ capacity: 64, batch: 2 })
    expect(() => model.generate([1], { cache: pair })).toThrow(refused('INVALID_ARGUMENT', 'cache'))
    const tokens = model.generate([1], { cache })[Symbol.asyncIterator]()
    await tokens.next()
    await expect(write([2], { cache })).rejects.toMatchObject({ code: 'BUSY', where: 'cache' })
    await tokens.return!()
    expect(await write([2], { cache, maxNewTokens: 1 })).toHaveLength(1)
    const reason = new Error('late')
    await expect(write([1], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  })

  test('models that are loaded without a cache, or that are fed what it does not know', async () => {
    await using without = await harness.load(bytes)
    expect(() => without.generate([1])).toThrow(refused('INVALID_ARGUMENT', 'cache'))
    const image = onnx({
      opset: 23,
      input: [
        value('image', 'f32', ['batch', 2, 'length', 8]),
        ...['past_key', 'past_value'].map((name) => value(name, 'f32', ['batch', 2, 'past', 8])),
      ],
      output: [value('y', 'f32')],
      node: [
        node(
          'Attention',
          ['image', 'image', 'image', '', 'past_key', 'past_value'],
          ['out', 'present_key', 'present_value'],
        ),
        node('Neg', ['out'], 'y'),
      ],
    })
    await using other = await harness.load(image, { cache: true })
    expect(() => other.generate([1])).toThrow(refused('UNSUPPORTED', 'image'))
  })
})
