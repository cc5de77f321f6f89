import {
  type ConfiguredMethod,
  type OwnedTensor,
  type PlanStats,
  relativeError,
  SparseAttentionError,
} from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { trackBuffers } from '@sparse-attention/testing'
import type { InferenceSession, Tensor } from 'onnxruntime-web'
import { beforeAll, describe, expect, test } from 'vitest'
import { node, model as onnx, value } from '../test/build.js'
import { createHarness, expectSameOutputs, type Harness } from '../test/harness.js'
import { readExport } from '../test/read-export.js'
import { tinyLlama, tinyLlamaFeeds, tinyLlamaModel, tinyPrompt } from '../test/tiny-llama.js'
import { type AttentionEvent, AttentionModel, type AttentionNode, type LoadProgress, type Ort } from './index.js'

let harness: Harness
beforeAll(async () => {
  harness = await createHarness()
})

const llama = tinyLlamaModel()

describe('a Llama with rotary and KV inputs', () => {
  test.each([
    ['separate q, k and v', {}],
    ['packed q, k and v', { packed: true }],
    ['half of each head rotated', { rotaryWidth: 8 }],
  ])('%s: prompt, then more tokens', async (_, options) => {
    const bytes = tinyLlamaModel(options)
    await using model = await harness.load(bytes)
    expect(model.describe()).toMatchObject({ provider: 'wasm', pieces: tinyLlama.layers + 1 })

    const feeds = tinyLlamaFeeds(harness, tinyPrompt)
    const expected = await harness.reference(bytes, feeds)
    await expectSameOutputs(await model.run(feeds), expected)

    for (const next of [[3], [5, 1, 8, 2, 9]]) {
      const more = tinyLlamaFeeds(harness, next, expected, 1)
      await expectSameOutputs(await model.run(more), await harness.reference(bytes, more))
    }
  })

  test('with one attention kept, and with all', async () => {
    const feeds = tinyLlamaFeeds(harness, tinyPrompt)
    const expected = await harness.reference(llama, feeds)
    for (const replaced of [[1], []]) {
      await using model = await harness.load(llama, {
        attention: ({ layer }) => (replaced.includes(layer) ? dense() : 'keep'),
      })
      const { pieces, attentions } = model.describe()
      expect(pieces).toBe(replaced.length + 1)
      expect(attentions.map(({ prefill }) => prefill)).toEqual(
        replaced.length > 0 ? ['keep', 'dense'] : ['keep', 'keep'],
      )
      await expectSameOutputs(await model.run(feeds), expected)
    }
  })

  test('tells the callback about each attention', async () => {
    const seen: unknown[] = []
    const attention = (each: AttentionNode) => {
      seen.push(each)
      return 'keep' as const
    }
    await using model = await harness.load(llama, { attention })
    const common = {
      opType: 'GroupQueryAttention',
      queryHeads: 4,
      kvHeads: 2,
      headDim: 32,
      causal: true,
      rotary: true,
      masked: false,
    }
    expect(seen).toEqual([
      { ...common, name: 'attended_0_node', layer: 0, scale: undefined },
      { ...common, name: 'attended_1_node', layer: 1, scale: undefined },
    ])
    expect(model.describe().attentions.map((each) => each.node)).toEqual(seen)
  })

  test('returns only the outputs asked for', async () => {
    await using model = await harness.load(llama)
    const feeds = tinyLlamaFeeds(harness, tinyPrompt, {}, 2)
    const outputs = await model.run(feeds, { outputs: ['present.1.key', 'logits'] })
    const { logits, 'present.1.key': key } = await harness.reference(llama, feeds)
    await expectSameOutputs(outputs, { logits: logits!, 'present.1.key': key! })
  })

  test('runs queue up', async () => {
    await using model = await harness.load(llama)
    const prompts = [[1, 2, 3], tinyPrompt, [4]].map((ids) => tinyLlamaFeeds(harness, ids))
    const all = await Promise.all(prompts.map((feeds) => model.run(feeds)))
    for (const [i, feeds] of prompts.entries()) await expectSameOutputs(all[i]!, await harness.reference(llama, feeds))
  })
})

describe('onAttention', () => {
  test('shows the tensors and the plan of each attention while they are valid', async () => {
    await using model = await harness.load(llama)
    using attention = await harness.runtime.use(dense(), {
      queryHeads: 4,
      kvHeads: 2,
      headDim: 32,
      dtype: 'f32',
      causal: true,
    })
    const { runtime } = harness
    const seen: { layer: number; method: string; outError: number; lseError: number; stats: PlanStats }[] = []
    const onAttention = async ({ node, method, q, k, v, out, lse, plan, attentionMs }: AttentionEvent) => {
      expect(attentionMs).toBeGreaterThan(0)
      const again = await attention.run({ q, k, v })
      seen.push({
        layer: node.layer,
        method,
        outError: relativeError(await runtime.read(out), await runtime.read(again.out)),
        lseError: relativeError(await runtime.read(lse), await runtime.read(again.lse)),
        stats: await plan.stats(),
      })
      for (const tensor of [again.out, again.lse]) (tensor as OwnedTensor).dispose()
    }
    await model.run(tinyLlamaFeeds(harness, tinyPrompt), { onAttention })
    expect(seen).toMatchObject([
      { layer: 0, method: 'dense', outError: 0, lseError: 0, stats: { density: 1, path: 'dense' } },
      { layer: 1, method: 'dense', outError: 0, lseError: 0, stats: { density: 1, path: 'dense' } },
    ])
  })

  test('each attention is told what a run tells it: the same, or what a function says for it', async () => {
    await using model = await harness.load(llama)
    const told: unknown[] = []
    const onAttention = ({ context }: AttentionEvent) => void told.push(context)
    const feeds = tinyLlamaFeeds(harness, tinyPrompt)
    await model.run(feeds, { onAttention, context: { step: 2, steps: 5 } })
    await model.run(feeds, { onAttention, context: ({ layer }) => (layer === 1 ? { step: 3, steps: 5 } : undefined) })
    expect(told).toEqual([
      { layer: 0, step: 2, steps: 5 },
      { layer: 1, step: 2, steps: 5 },
      { layer: 0 },
      { layer: 1, step: 3, steps: 5 },
    ])
  })

  test('what it throws ends the run, and the next is not affected', async () => {
    await using model = await harness.load(llama)
    const feeds = tinyLlamaFeeds(harness, tinyPrompt)
    const onAttention = () => {
      throw new Error('enough')
    }
    await expect(model.run(feeds, { onAttention })).rejects.toThrow('enough')
    await expectSameOutputs(await model.run(feeds), await harness.reference(llama, feeds))
  })
})

describe('methods for one kind of call', () => {
  const limited = (queryLength: 'one' | 'many'): ConfiguredMethod => {
    const { method, options } = dense()
    const capabilities = { ...method.capabilities, queryLength }
    return { method: { ...method, id: `only-${queryLength}`, capabilities }, options }
  }

  test.each([
    ['many tokens', limited('many'), ['only-many', 'dense']],
    ['one token', limited('one'), ['dense', 'only-one']],
    ['each', { prefill: limited('many'), decode: limited('one') }, ['only-many', 'only-one']],
  ])('%s', async (_, method, expected) => {
    await using model = await harness.load(llama, { attention: () => method })
    for (const { prefill, decode } of model.describe().attentions) expect([prefill, decode]).toEqual(expected)
    const ran: string[] = []
    const onAttention = (event: AttentionEvent) => void ran.push(event.method)
    const outputs = await model.run(tinyLlamaFeeds(harness, [1, 2, 3]), { onAttention })
    const more = tinyLlamaFeeds(harness, [4], outputs)
    await expectSameOutputs(await model.run(more, { onAttention }), await harness.reference(llama, more))
    expect(ran).toEqual([expected[0], expected[0], expected[1], expected[1]])
  })
})

describe('wrong calls', () => {
  test.each<[string, (feeds: Record<string, unknown>) => void, code: string, message: string]>([
    ['a feed is missing', (feeds) => delete feeds.input_ids, 'INVALID_ARGUMENT', "'input_ids' is not fed"],
    ['there is one too many', (feeds) => (feeds.ids = feeds.input_ids), 'INVALID_ARGUMENT', "has no input 'ids'"],
    [
      'a feed has another type',
      (feeds) => (feeds.input_ids = harness.tensor('int32', [1, 3], [1, 2, 3])),
      'INVALID_DTYPE',
      "'input_ids' is fed int32. It takes int64",
    ],
    [
      'a feed has another rank',
      (feeds) => (feeds.input_ids = harness.tensor('int64', [3], [1, 2, 3])),
      'INVALID_SHAPE',
      "'input_ids' is fed the shape [3]. It takes [batch, length]",
    ],
    [
      'a feed has another fixed size',
      (feeds) => (feeds['past_key_values.1.key'] = harness.tensor('float32', [1, 3, 0, 32], [])),
      'INVALID_SHAPE',
      'It takes [batch, 2, past, 32]',
    ],
    [
      'sizes contradict each other',
      (feeds) => (feeds['past_key_values.0.key'] = harness.tensor('float32', [2, 2, 1, 32], new Float32Array(128))),
      'INVALID_ARGUMENT',
      'onnxruntime-web cannot compute piece 1 of 3',
    ],
  ])('%s', async (_, change, code, message) => {
    await using model = await harness.load(llama)
    const feeds = tinyLlamaFeeds(harness, [1, 2, 3])
    change(feeds)
    await expect(model.run(feeds)).rejects.toMatchObject({ code, message: expect.stringContaining(message) })
  })

  test('an output that the model does not have', async () => {
    await using model = await harness.load(llama)
    await expect(model.run(tinyLlamaFeeds(harness, [1]), { outputs: ['loss'] })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining("has no output 'loss'"),
    })
  })

  test.each([undefined, null, 'dense', {}, dense])('a choice of attention that is none: %s', async (choice) => {
    await expect(harness.load(llama, { attention: () => choice as never })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      where: 'attention',
    })
  })

  test('a provider that does not exist', async () => {
    await expect(harness.load(llama, { provider: 'cuda' as never })).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  })
})

/** onnxruntime-web with its open sessions counted. */
function countSessions(): { ort: Ort; open(): number; made(): number } {
  let open = 0
  let made = 0
  const create = async (...args: unknown[]): Promise<InferenceSession> => {
    const session = await (harness.ort.InferenceSession.create as (...args: unknown[]) => Promise<InferenceSession>)(
      ...args,
    )
    open++
    made++
    const release = session.release.bind(session)
    session.release = async () => {
      open--
      await release()
    }
    return session
  }
  const InferenceSession = { create } as Ort['InferenceSession']
  return { ort: { InferenceSession, Tensor: harness.ort.Tensor }, open: () => open, made: () => made }
}

describe('lifetimes', () => {
  const load = (ort: Ort, bytes: Uint8Array, attention = dense()) =>
    AttentionModel.load(harness.runtime, ort, bytes, { provider: 'wasm', attention: () => attention })

  test('disposing frees sessions and buffers, may be repeated, and ends the model', async () => {
    const sessions = countSessions()
    using buffers = trackBuffers(harness.runtime.device)
    const model = await load(sessions.ort, llama)
    const feeds = tinyLlamaFeeds(harness, tinyPrompt)
    const running = model.run(feeds)
    await model.dispose()
    await running
    await model.dispose()
    expect([sessions.made(), sessions.open()]).toEqual([tinyLlama.layers + 2, 0])
    await expect(model.run(feeds)).rejects.toMatchObject({ code: 'DISPOSED' })

    // What is left are the runtime's uniforms, shared by everything that runs on it.
    const left = buffers.live
    await using again = await load(sessions.ort, llama)
    await again.run(feeds)
    await again.dispose()
    expect(buffers.live).toBe(left)
  })

  test('many runs of one length take no more memory than two', async () => {
    await using model = await harness.load(llama)
    using buffers = trackBuffers(harness.runtime.device)
    const feeds = tinyLlamaFeeds(harness, [1, 2, 3, 4, 5])
    await model.run(feeds)
    await model.run(feeds)
    const { live, liveBytes } = buffers
    for (let i = 0; i < 50; i++) await model.run(feeds)
    expect([buffers.live, buffers.liveBytes]).toEqual([live, liveBytes])
  })

  test('a piece that onnxruntime-web refuses: an error, and the pieces before are freed', async () => {
    const bytes = onnx({
      input: [value('x', 'f32', [1, 'n', 32])],
      output: [value('y', 'f32')],
      node: [
        node('Relu', ['x'], 'a'),
        node('ms:MultiHeadAttention', ['a', 'a', 'a'], 'b', { num_heads: 2n }),
        node('ms:NoSuchOperator', ['b'], 'y'),
      ],
    })
    const sessions = countSessions()
    await expect(load(sessions.ort, bytes)).rejects.toMatchObject({
      code: 'INVALID_FILE',
      where: 'piece 2 of 2',
      message: expect.stringContaining('NoSuchOperator'),
    })
    expect([sessions.made(), sessions.open()]).toEqual([1, 0])
  })

  test('a method that does not take the attention: its error, and all pieces are freed', async () => {
    const { method, options } = dense()
    const capabilities = { ...method.capabilities, causal: [false] }
    const sessions = countSessions()
    const loading = load(sessions.ort, llama, { method: { ...method, capabilities }, options })
    await expect(loading).rejects.toMatchObject({ code: 'UNSUPPORTED', where: 'causal' })
    expect([sessions.made(), sessions.open()]).toEqual([2, 0])
  })

  test.each([
    ['webgpu', 'WEBGPU_UNAVAILABLE'],
    ['wasm', 'MISSING_DEPENDENCY'],
  ] as const)('onnxruntime-web that cannot start its %s provider', async (provider, code) => {
    const create = () => Promise.reject(new Error('no available backend found. ERR: [x] fetch failed'))
    const ort = { InferenceSession: { create }, Tensor: harness.ort.Tensor } as unknown as Ort
    const bytes = onnx({
      input: [value('x', 'f32', [1, 'n', 32])],
      output: [value('y', 'f32')],
      node: [node('ms:MultiHeadAttention', ['x', 'x', 'x'], 'y', { num_heads: 2n })],
    })
    const loading = AttentionModel.load(harness.runtime, ort, bytes, { provider, attention: () => dense() })
    await expect(loading).rejects.toMatchObject({ code, where: 'ort' })
  })
})

describe('cancelling', () => {
  test('a load: between two steps, with the reason, and nothing left open', async () => {
    const controller = new AbortController()
    const steps: LoadProgress[] = []
    const sessions = countSessions()
    const loading = AttentionModel.load(harness.runtime, sessions.ort, llama, {
      provider: 'wasm',
      attention: () => dense(),
      signal: controller.signal,
      onProgress(progress) {
        steps.push(progress)
        if (steps.length === 2) controller.abort(new Error('changed my mind'))
      },
    })
    await expect(loading).rejects.toThrow('changed my mind')
    expect(steps).toEqual([
      { done: 1, total: 5, step: 'piece 1 of 3' },
      { done: 2, total: 5, step: 'attention attended_0_node' },
    ])
    expect(sessions.open()).toBe(0)
  })

  test('a run: before the next piece, with the reason, and the next run is not affected', async () => {
    await using model = await harness.load(llama)
    const feeds = tinyLlamaFeeds(harness, tinyPrompt)
    const controller = new AbortController()
    const layers: number[] = []
    const onAttention = (event: AttentionEvent) => {
      layers.push(event.node.layer)
      controller.abort(new Error('too slow'))
    }
    await expect(model.run(feeds, { onAttention, signal: controller.signal })).rejects.toThrow('too slow')
    expect(layers).toEqual([0])
    await expect(model.run(feeds, { signal: controller.signal })).rejects.toThrow('too slow')
    await expectSameOutputs(await model.run(feeds), await harness.reference(llama, feeds))
  })
})

test('float16 models keep float16 up to and after the attention', async () => {
  const { ort } = harness
  const operators = (type: 'f32' | 'f16') =>
    onnx({
      input: [value('x', type, [1, 'n', 64])],
      output: [value('y', type)],
      node: [
        node('Neg', ['x'], 'a'),
        node('ms:MultiHeadAttention', ['a', 'a', 'a'], 'b', { num_heads: 2n }),
        node('Neg', ['b'], 'y'),
      ],
    })
  // Multiples of 1/64, exact in both formats.
  const numbers = Float32Array.from({ length: 9 * 64 }, (_, i) => ((i * 29) % 127) / 64 - 1)
  const halves = new ort.Tensor('float16', Uint16Array.from(numbers, toHalf), [1, 9, 64])
  await using model = await harness.load(operators('f16'))
  const { y } = await model.run({ x: halves })
  expect(y!.type).toBe('float16')
  const expected = await harness.reference(operators('f32'), { x: harness.tensor('float32', [1, 9, 64], numbers) })
  const actual = Array.from(y!.data as unknown as Uint16Array, fromHalf)
  // A few roundings to 11 bits.
  expect(relativeError(actual, expected.y!.data as Float32Array)).toBeLessThan(2e-3)
})

function toHalf(x: number): number {
  if (x === 0) return 0
  const exponent = Math.floor(Math.log2(Math.abs(x)))
  return (x < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | ((Math.abs(x) / 2 ** exponent - 1) * 1024)
}

function fromHalf(bits: number): number {
  const exponent = (bits >> 10) & 31
  const fraction = (bits & 1023) / 1024
  return (bits & 0x8000 ? -1 : 1) * (exponent === 0 ? fraction * 2 ** -14 : (1 + fraction) * 2 ** (exponent - 15))
}

test('errors are typed in every copy of the package', async () => {
  const error: unknown = await harness.load(new Uint8Array([1, 2, 3])).catch((reason: unknown) => reason)
  expect(SparseAttentionError.is(error)).toBe(true)
})

describe('several models on one device', () => {
  test('run in turns and at once, beside a session of onnxruntime-web, and outlive each other', async () => {
    const { ort } = harness
    const exported = await readExport(harness, 'whisper-sdpa-dynamo-18')
    const first = await harness.load(llama)
    await using second = await harness.load(tinyLlamaModel({ packed: true }))
    await using third = await harness.load(exported.bytes)
    const session = await ort.InferenceSession.create(llama, { executionProviders: ['wasm'], logSeverityLevel: 3 })
    const feeds = tinyLlamaFeeds(harness, tinyPrompt)
    const expected = (await session.run(feeds)) as Record<string, Tensor>
    const packed = await harness.reference(tinyLlamaModel({ packed: true }), feeds)
    const whisper = await harness.reference(exported.bytes, exported.feeds)
    const [a, b, c, d] = await Promise.all([
      first.run(feeds),
      second.run(feeds),
      third.run(exported.feeds),
      session.run(feeds) as Promise<Record<string, Tensor>>,
    ])
    await expectSameOutputs(a, expected)
    await expectSameOutputs(b, packed)
    await expectSameOutputs(c, whisper)
    await expectSameOutputs(d, expected)
    await session.release()
    await first.dispose()
    await expectSameOutputs(await second.run(feeds), packed)
    await expectSameOutputs(await third.run(exported.feeds), whisper)
  })
})
