import type { NodeProto, TensorProto } from 'onnx-buf'
import type { Tensor } from 'onnxruntime-web'
import { beforeAll, describe, expect, test } from 'vitest'
import { model, node, tensor, uniform, value } from '../test/build.js'
import { createHarness, expectSameOutputs, type Harness } from '../test/harness.js'
import { tinyLlamaFeeds, tinyLlamaModel } from '../test/tiny-llama.js'

// Every form of the two operators that is replaced, against onnxruntime-web's own.
let harness: Harness
beforeAll(async () => {
  harness = await createHarness()
})

const HEADS = 4
const D = 16
const WIDTH = HEADS * D

interface Form {
  /** Inputs of the operator in its order: a shape to feed, `-` for none, or a TensorProto in the file. */
  readonly inputs: readonly (readonly number[] | '-' | TensorProto)[]
  readonly outputs?: readonly string[]
  readonly attributes?: Readonly<Record<string, bigint | number>>
}

const names = ['query', 'key', 'value', 'bias', '', '', 'past_key', 'past_value']

/** One MultiHeadAttention between two other nodes, and what to feed it. */
function build({ inputs, outputs = ['out'], attributes = {} }: Form): {
  bytes: Uint8Array
  feeds: Record<string, Tensor>
} {
  const feeds: Record<string, Tensor> = {}
  const initializer: TensorProto[] = []
  const nodes: NodeProto[] = []
  const given = inputs.map((input, index) => {
    const name = names[index]!
    if (input === '-') return ''
    if ('dims' in input) {
      initializer.push(input)
      return input.name
    }
    const count = input.reduce((product, size) => product * size, 1)
    feeds[name] = harness.tensor('float32', input, uniform(index + 1, count))
    // A node before each, so that the attention is in the middle of a graph.
    nodes.push(node('Neg', [name], `${name}_in`))
    return `${name}_in`
  })
  nodes.push(node('ms:MultiHeadAttention', given, outputs, { num_heads: BigInt(HEADS), ...attributes }))
  nodes.push(node('Tanh', ['out'], 'y'))
  const results = ['y', ...outputs.slice(1)]
  const input = Object.entries(feeds).map(([name, { dims }]) =>
    value(
      name,
      'f32',
      dims.map((_, axis) => `${name}_${axis}`),
    ),
  )
  const output = results.map((name) => value(name, 'f32'))
  return { bytes: model({ input, output, node: nodes, initializer }), feeds }
}

const self = (length: number) => [1, length, WIDTH] as const
const bias = tensor('bias', [3 * WIDTH], uniform(9, 3 * WIDTH))

describe('MultiHeadAttention', () => {
  test.each<[string, Form]>([
    ['over itself', { inputs: [self(19), self(19), self(19)] }],
    [
      'over another sequence, batch 2',
      {
        inputs: [
          [2, 7, WIDTH],
          [2, 21, WIDTH],
          [2, 21, WIDTH],
        ],
      },
    ],
    ['with a bias', { inputs: [self(11), self(11), self(11), bias] }],
    ['with a bias that is computed', { inputs: [self(11), self(11), self(11), [3 * WIDTH]] }],
    ['with a scale', { inputs: [self(11), self(11), self(11)], attributes: { scale: 0.07 } }],
    ['unidirectional', { inputs: [self(13), self(13), self(13)], attributes: { unidirectional: 1n } }],
    ['with keys of [batch, heads, length, head_dim]', { inputs: [self(9), [1, HEADS, 14, D], [1, HEADS, 14, D]] }],
    [
      'with present keys as outputs',
      { inputs: [self(9), self(9), self(9)], outputs: ['out', 'present_key', 'present_value'] },
    ],
    [
      'with a past, a bias, and unidirectional',
      {
        inputs: [self(6), self(6), self(6), bias, '-', '-', [1, HEADS, 10, D], [1, HEADS, 10, D]],
        outputs: ['out', 'present_key', 'present_value'],
        attributes: { unidirectional: 1n },
      },
    ],
  ])('%s', async (_, form) => {
    const { bytes, feeds } = build(form)
    await using attention = await harness.load(bytes)
    await expectSameOutputs(await attention.run(feeds), await harness.reference(bytes, feeds))
  })

  // onnxruntime-web has no packed forms on either provider, so the same numbers go to it unpacked.
  test.each([
    ['q, k and v', 3],
    ['k and v', 2],
  ])('packed %s', async (_, count) => {
    const length = 12
    const { bytes, feeds } = build({ inputs: [self(length), self(length), self(length)] })
    const expected = await harness.reference(bytes, feeds)
    const parts = Object.values(feeds).slice(3 - count) as Tensor[]
    const packed = new Float32Array(length * HEADS * count * D)
    for (const [index, part] of parts.entries()) {
      for (const [at, x] of (part.data as Float32Array).entries()) {
        const [row, d] = [Math.floor(at / D), at % D]
        packed[(row * count + index) * D + d] = x
      }
    }
    const dims = [1, length, HEADS, count, D]
    const form = build({ inputs: count === 3 ? [dims] : [self(length), dims] })
    const name = count === 3 ? 'query' : 'key'
    await using attention = await harness.load(form.bytes)
    const actual = await attention.run({ ...form.feeds, [name]: harness.tensor('float32', dims, packed) })
    await expectSameOutputs(actual, expected)
  })

  test('right on the graph inputs, and its output right on the graph output', async () => {
    const qkv = ['query', 'key', 'value']
    const bytes = model({
      input: qkv.map((name) => value(name, 'f32', ['b', 'l', WIDTH])),
      output: [value('out', 'f32'), value('key', 'f32')],
      node: [node('ms:MultiHeadAttention', qkv, 'out', { num_heads: BigInt(HEADS) })],
    })
    const { feeds } = build({ inputs: [self(8), self(8), self(8)] })
    await using attention = await harness.load(bytes)
    const outputs = await attention.run(feeds)
    expect(outputs.key).toBe(feeds.key)
    await expectSameOutputs(outputs, await harness.reference(bytes, feeds))
  })

  test('one after another, an output straight into the next', async () => {
    const attend = (q: string, kv: string, out: string) =>
      node('ms:MultiHeadAttention', [q, kv, kv], out, { num_heads: BigInt(HEADS) })
    const bytes = model({
      input: [value('query', 'f32', ['b', 'l', WIDTH])],
      output: [value('c', 'f32'), value('a', 'f32')],
      node: [attend('query', 'query', 'a'), attend('a', 'query', 'b'), attend('b', 'a', 'c')],
    })
    const { feeds } = build({ inputs: [self(8)] })
    await using attention = await harness.load(bytes)
    await expectSameOutputs(await attention.run(feeds), await harness.reference(bytes, feeds))
  })
})

describe('GroupQueryAttention', () => {
  describe('without past and present, packed, interleaved rotary, a scale, positions given', () => {
    const length = 10
    const width = (4 + 2 * 2) * 32
    const cache = (name: string, seed: number) => tensor(name, [64, 16], uniform(seed, 64 * 16))
    const bytes = model({
      input: [
        value('query', 'f32', [1, 'length', width]),
        value('seqlens', 'i32', [1]),
        value('total', 'i32', []),
        value('positions', 'i64', [1, 'length']),
      ],
      output: [value('y', 'f32')],
      initializer: [cache('cos', 1), cache('sin', 2)],
      node: [
        node('Neg', ['query'], 'negative'),
        node(
          'ms:GroupQueryAttention',
          ['negative', '', '', '', '', 'seqlens', 'total', 'cos', 'sin', 'positions'],
          ['out'],
          { num_heads: 4n, kv_num_heads: 2n, do_rotary: 1n, rotary_interleaved: 1n, scale: 0.3 },
        ),
        node('Tanh', ['out'], 'y'),
      ],
    })
    const feeds = (position: (i: number) => number) => ({
      query: harness.tensor('float32', [1, length, width], uniform(3, length * width)),
      seqlens: harness.tensor('int32', [1], [length - 1]),
      total: harness.tensor('int32', [], [length]),
      positions: harness.tensor(
        'int64',
        [1, length],
        Array.from({ length }, (_, i) => position(i)),
      ),
    })

    test('that count from 0', async () => {
      await using attention = await harness.load(bytes)
      const given = feeds((i) => i)
      await expectSameOutputs(await attention.run(given), await harness.reference(bytes, given))
    })

    test('that do not are refused', async () => {
      await using attention = await harness.load(bytes)
      await expect(attention.run(feeds((i) => 2 * i))).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        where: 'out_node',
        message: expect.stringContaining("the position 2 from 'positions', where 0 to 9 follow"),
      })
    })
  })

  test('a batch of two sequences', async () => {
    const bytes = tinyLlamaModel()
    const one = tinyLlamaFeeds(harness, [1, 2, 3, 4, 5, 6, 7, 8])
    const twice = (name: string, tensor: Tensor): Tensor => {
      if (tensor.dims.length === 0) return tensor
      const data = [...(tensor.data as Iterable<number | bigint>)].map(Number)
      const second = name === 'input_ids' ? data.toReversed() : data
      const type = tensor.type as 'float32' | 'int64'
      return harness.tensor(type, [2, ...tensor.dims.slice(1)], [...data, ...second])
    }
    const feeds = Object.fromEntries(Object.entries(one).map(([name, tensor]) => [name, twice(name, tensor)]))
    await using llama = await harness.load(bytes)
    await expectSameOutputs(await llama.run(feeds), await harness.reference(bytes, feeds))
  })
})

describe('calls that would mean something else', () => {
  const llama = tinyLlamaModel()

  test('padding in the attention mask is refused before anything runs', async () => {
    await using model = await harness.load(llama)
    const feeds = tinyLlamaFeeds(harness, [1, 2, 3, 4])
    feeds.attention_mask = harness.tensor('int64', [1, 4], [1, 1, 1, 0])
    await expect(model.run(feeds)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      where: 'attended_0_node',
      message: expect.stringMatching(/has 4 keys, but 'seqlens_k' says that one sequence of the batch has 3/),
    })
  })

  test('a past that is longer than what it holds is refused', async () => {
    await using model = await harness.load(llama)
    const feeds = tinyLlamaFeeds(harness, [1, 2, 3, 4])
    for (const name of Object.keys(feeds).filter((name) => name.startsWith('past'))) {
      feeds[name] = harness.tensor('float32', [1, 2, 8, 32], new Float32Array(512))
    }
    await expect(model.run(feeds)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('past and new keys are 12 together, but total_sequence_length is 4'),
    })
  })

  test('unidirectional with other keys than queries and no past is refused', async () => {
    const { bytes, feeds } = build({ inputs: [self(3), self(5), self(5)], attributes: { unidirectional: 1n } })
    await using model = await harness.load(bytes)
    await expect(model.run(feeds)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      where: 'out_node',
      message: expect.stringContaining('unidirectional with 3 queries and 5 keys'),
    })
  })

  test.each<[string, Form]>([
    ['an empty query', { inputs: [self(0), self(5), self(5)] }],
    ['a width that the heads do not divide', { inputs: [[1, 5, WIDTH + 2], self(5), self(5)] }],
    ['another width of key than of query', { inputs: [self(5), [1, 5, WIDTH / 2], self(5)] }],
    ['another width of value than of key', { inputs: [self(5), self(5), [1, 5, WIDTH * 2]] }],
    ['another batch of key than of query', { inputs: [self(5), [2, 5, WIDTH], [2, 5, WIDTH]] }],
    ['a key of two axes', { inputs: [self(5), [5, WIDTH], [5, WIDTH]] }],
  ])('%s is refused', async (_, form) => {
    const { bytes, feeds } = build(form)
    await using model = await harness.load(bytes)
    await expect(model.run(feeds)).rejects.toMatchObject({ code: 'INVALID_SHAPE' })
  })

  test('a head dim that no kernel takes is refused', async () => {
    const { bytes, feeds } = build({
      inputs: [
        [1, 5, HEADS * 12],
        [1, 5, HEADS * 12],
        [1, 5, HEADS * 12],
      ],
    })
    await using model = await harness.load(bytes)
    await expect(model.run(feeds)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('12'),
    })
  })
})
