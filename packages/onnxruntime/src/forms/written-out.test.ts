import type { Tensor } from 'onnxruntime-web'
import { beforeAll, describe, expect, test } from 'vitest'
import { model, modelProto, node, type Parts, tensor, uniform, value } from '../../test/build.js'
import { createHarness, expectSameOutputs, type Harness } from '../../test/harness.js'
import { number, type WrittenOut, writtenOut, writtenOutModel } from '../../test/written-out.js'
import { findAttentions } from '../find-attentions.js'
import { readGraph } from '../graph.js'

let harness: Harness
beforeAll(async () => {
  harness = await createHarness()
})

const D = 8

function feeds({ queryHeads = 4, kvHeads = queryHeads, key }: WrittenOut, queries: number, keys = queries) {
  const floats = (seed: number, ...dims: number[]) =>
    harness.tensor(
      'float32',
      dims,
      uniform(
        seed,
        dims.reduce((a, b) => a * b, 1),
        2,
      ),
    )
  return {
    q: floats(1, 2, queries, queryHeads * D),
    k: key === 'fed' ? floats(2, 2, kvHeads, D, keys) : floats(2, 2, keys, kvHeads * D),
    v: floats(3, 2, keys, kvHeads * D),
  } as Record<string, Tensor>
}

/** Adds what an input says. */
const added: WrittenOut = {
  maskInputs: [value('mask', 'f32', ['b', 1, 'queries', 'keys'])],
  mask: (scores) => ({ nodes: [node('Add', ['mask', scores], 'masked')], masked: 'masked' }),
}

const triangle = (n: number) => Int32Array.from({ length: n * n }, (_, i) => (i % n <= Math.floor(i / n) ? 1 : 0))

/** A stored triangle, of which the part that is needed is cut out: GPT-2's way. */
const sliced: WrittenOut = {
  initializer: [
    tensor('four', [1], BigInt64Array.of(4n)),
    tensor('zeros', [2], BigInt64Array.of(0n, 0n)),
    tensor('last_axes', [2], BigInt64Array.of(2n, 3n)),
    tensor('triangle', [1, 1, 16, 16], triangle(16)),
    tensor('one', [], Int32Array.of(1)),
  ],
  mask: (scores) => ({
    nodes: [
      node('Shape', [scores], 'scores_shape'),
      node('Slice', ['scores_shape', 'axis_2', 'four'], 'lengths'),
      node('Slice', ['triangle', 'zeros', 'lengths', 'last_axes'], 'part'),
      node('Equal', ['part', 'one'], 'visible'),
      node('Where', ['visible', scores, 'low'], 'masked'),
    ],
    masked: 'masked',
  }),
}

describe('attention written out, like onnxruntime-web', () => {
  test.each<[string, WrittenOut]>([
    ['scaled after the product', {}],
    ['scaled by division', { scale: 'div' }],
    ['scaled before the product, guarded against NaN', { scale: 'both', guard: true }],
    ['not scaled, keys transposed with the heads', { scale: 'none', key: 'at once' }],
    ['keys fed as columns', { key: 'fed' }],
    ['heads repeated for their group', { kvHeads: 2 }],
    ['one KV head, repeated', { kvHeads: 1, scale: 'both' }],
    ['Softmax along axis 3, before operator set 13', { softmaxAxis: 3, opset: 12 }],
  ])('%s', async (_, form) => {
    const parts = writtenOut(form)
    // Before operator set 13, Unsqueeze took its axes as an attribute; nothing is repeated here.
    const bytes = writtenOutModel(form)
    expect(parts.opset).toBe(form.opset ?? 18)
    await using model = await harness.load(bytes)
    const [{ node: found } = {}] = model.describe().attentions
    expect(found).toMatchObject({ opType: 'Softmax', queryHeads: 4, kvHeads: form.kvHeads ?? 4, headDim: D })
    const given = feeds(form, 5, 7)
    await expectSameOutputs(await model.run(given), await harness.reference(bytes, given))
  })

  test('a stored triangle, of which a run takes its part', async () => {
    const bytes = writtenOutModel(sliced)
    await using model = await harness.load(bytes)
    expect(model.describe().attentions).toMatchObject([{ prefill: 'dense', node: { causal: true, masked: true } }])
    const square = feeds({}, 5)
    await expectSameOutputs(await model.run(square), await harness.reference(bytes, square))
    await expect(model.run(feeds({}, 3, 5))).rejects.toMatchObject({ code: 'UNSUPPORTED' })
  })

  test('a mask that is fed: nothing hidden, causal, and one query of many', async () => {
    const bytes = writtenOutModel(added)
    await using model = await harness.load(bytes)
    expect(model.describe().attentions).toMatchObject([
      { prefill: 'dense', reason: 'a method was chosen; each run checks the mask', node: { masked: true } },
    ])
    const causal = (i: number, j: number) => (j > i + 2 ? Number.NEGATIVE_INFINITY : 0)
    for (const [queries, mask] of [
      [4, () => 0],
      [4, causal],
      [1, () => 0],
    ] as [number, (i: number, j: number) => number][]) {
      const numbers = Array.from({ length: queries * 6 }, (_, at) => mask(Math.floor(at / 6), at % 6))
      const given = { ...feeds({}, queries, 6), mask: harness.tensor('float32', [1, 1, queries, 6], numbers) }
      await expectSameOutputs(await model.run(given), await harness.reference(bytes, given))
    }
    const padded = { ...feeds({}, 4, 6), mask: harness.tensor('float32', [1, 1, 1, 6], [0, 0, 0, 0, 0, -1e9]) }
    await expect(model.run(padded)).rejects.toMatchObject({ code: 'UNSUPPORTED' })
    const biased = { ...feeds({}, 4, 6), mask: harness.tensor('float32', [1, 1, 1, 6], [0, 1, 0, 0, 0, 0]) }
    await expect(model.run(biased)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      where: 'p_node',
      message: expect.stringContaining('adds other numbers to the scores'),
    })
  })
})

/** Why the attention of a graph is kept. */
function obstacle(parts: Parts): string | undefined {
  const found = findAttentions(readGraph(modelProto(parts)))
  expect(found).toHaveLength(1)
  return found[0]!.node.obstacle
}

const withMask = (mask: NonNullable<WrittenOut['mask']>, more: Partial<WrittenOut> = {}) =>
  writtenOut({ ...more, mask })

describe('is kept, and the reason told', () => {
  test.each<[string, Parts, string]>([
    ['a scale of NaN', writtenOut({ factor: Number.NaN }), 'its scale is NaN'],
    ['a scale of 0', writtenOut({ factor: 0 }), 'its scale is 0'],
    ['a division by 0', writtenOut({ scale: 'div', factor: Number.POSITIVE_INFINITY }), 'its scale is Infinity'],
    [
      'a soft cap',
      withMask((scores) => ({ nodes: [node('Tanh', [scores], 'capped')], masked: 'capped' })),
      'a soft cap (Tanh)',
    ],
    [
      'a learned bias',
      withMask((scores) => ({ nodes: [node('Add', [scores, 'bias'], 'biased')], masked: 'biased' }), {
        initializer: [tensor('bias', [1, 4, 6, 6], uniform(1, 144))],
      }),
      "its mask 'bias' depends on the weights 'bias'",
    ],
    [
      'a mask made of activations',
      withMask((scores) => ({
        nodes: [node('MatMul', ['v', 'v'], 'w'), node('Add', [scores, 'w'], 'masked')],
        masked: 'masked',
      })),
      'depends on the MatMul',
    ],
    [
      'a mask that is scaled by a negative number',
      writtenOut({
        ...added,
        scale: 'none',
        initializer: [number('minus', -1)],
        mask: (scores) => ({
          nodes: [node('Add', [scores, 'mask'], 'sum'), node('Mul', ['sum', 'minus'], 'masked')],
          masked: 'masked',
        }),
      }),
      'its mask is multiplied by -1',
    ],
    ['a Softmax along another axis', writtenOut({ softmaxAxis: 2 }), 'not along the last of four axes'],
    ['a Softmax that flattens', writtenOut({ softmaxAxis: -1, opset: 12 }), 'not along the last of four axes'],
    ['probabilities that are returned', writtenOut({ outputs: ['p'] }), "'p' are an output of the graph"],
    [
      'probabilities that others read',
      writtenOut({ extra: [node('Neg', ['p'], 'n')], outputs: ['n'] }),
      "'p' are read by 2 nodes",
    ],
  ])('%s', (_, parts, reason) => {
    expect(obstacle(parts)).toContain(reason)
  })

  test.each<[string, (input: Parts['input']) => void, readonly number[], string]>([
    ['queries of unknown width', (input) => (input[0] = value('q', 'f32')), [0, 0, -1, D], 'its number of heads'],
    [
      'values of another head dim',
      (input) => (input[2] = value('v', 'f32', ['batch', 'keys', 64])),
      [0, 0, 4, -1],
      'head dim of 8, its values of 16',
    ],
  ])('%s', (_, change, heads, reason) => {
    const parts = writtenOut()
    change(parts.input)
    // The reshape to heads takes what is not told from what is left.
    const initializer = parts.initializer!.map((each) =>
      each.name.endsWith('_heads') ? { ...each, rawData: reshapeTo(heads) } : each,
    )
    expect(obstacle({ ...parts, initializer })).toContain(reason)
  })

  test('products of three axes', () => {
    const parts: Parts = {
      input: ['q', 'k', 'v'].map((name) => value(name, 'f32', name === 'k' ? ['n', D, 'l'] : ['n', 'l', D])),
      output: [value('y', 'f32')],
      node: [
        node('MatMul', ['q', 'k'], 's'),
        node('Softmax', ['s'], 'p', { axis: -1n }),
        node('MatMul', ['p', 'v'], 'y'),
      ],
    }
    expect(obstacle(parts)).toContain('have 3 axes, not four')
  })

  test('heads that are repeated in another way are replaced as they are', () => {
    const parts = writtenOut({ kvHeads: 2 })
    const swapped = parts.node.map((each) => ({
      ...each,
      input: each.input.map((name) => (name === 'k_kv' ? 'k_group' : name)),
    }))
    // 2 heads in groups of 2: the same numbers, so still found; with groups of 4 to 8 heads they are not.
    const [found] = findAttentions(readGraph(modelProto({ ...parts, node: swapped as Parts['node'] })))
    expect(found!.node).toMatchObject({ kvHeads: 2, obstacle: undefined })
    const scrambled = parts.node.map((each) =>
      each.output[0] === 'k_four' ? { ...each, input: ['k_length', 'k_all', 'k_batch', 'k_dim'] } : each,
    )
    const [other] = findAttentions(readGraph(modelProto({ ...parts, node: scrambled as Parts['node'] })))
    expect(other!.node.kvHeads).not.toBe(2)
  })

  test('values of another type than queries are refused', async () => {
    const parts = writtenOut()
    const halves = parts.node.flatMap((each) => {
      if (each.output[0] !== 'attended') return [each]
      const cast = ['p', 'v_rows'].map((name) => node('Cast', [name], `${name}_half`, { to: 10n }))
      return [...cast, { ...each, input: ['p_half', 'v_rows_half'] }]
    })
    await expect(harness.load(model({ ...parts, node: halves }))).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      where: 'p_node',
      message: expect.stringContaining('are float32, float32, float16, not of one type'),
    })
  })

  test('a model of which nothing can be replaced, although it was asked for, is refused', async () => {
    await expect(harness.load(writtenOutModel({ factor: Number.NaN }))).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      where: 'p_node',
      message: expect.stringContaining('its scale is NaN'),
    })
    await using kept = await harness.load(writtenOutModel({ factor: 0 }), { attention: () => 'keep' })
    expect(kept.describe().attentions).toMatchObject([{ prefill: 'keep', reason: "'keep' was chosen" }])
  })
})

function reshapeTo(sizes: readonly number[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(BigInt64Array.from(sizes, BigInt).buffer)
}

test.each<[string, readonly ReturnType<typeof node>[]]>([
  ['a Softmax of a classifier', [node('Softmax', ['x'], 'y', { axis: -1n })]],
  ['a Softmax whose product is on the other side', [node('Softmax', ['x'], 'p'), node('MatMul', ['x', 'p'], 'y')]],
  [
    'a Softmax of something else than a product',
    [node('Relu', ['x'], 'r'), node('Softmax', ['r'], 'p'), node('MatMul', ['p', 'x'], 'y')],
  ],
])('%s is no attention', (_, nodes) => {
  const parts: Parts = { input: [value('x', 'f32', [1, 4, 8, 8])], output: [value('y', 'f32')], node: [...nodes] }
  expect(findAttentions(readGraph(modelProto(parts)))).toEqual([])
})
