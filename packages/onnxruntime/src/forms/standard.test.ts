import type { Tensor } from 'onnxruntime-web'
import { beforeAll, describe, expect, test } from 'vitest'
import { model, modelProto, node, type Parts, tensor, uniform, value } from '../../test/build.js'
import { createHarness, expectSameOutputs, type Harness } from '../../test/harness.js'
import { findAttentions } from '../find-attentions.js'
import { readGraph } from '../graph.js'

// The operator Attention of operator sets 23 and 24, against onnxruntime-web's own.
let harness: Harness
beforeAll(async () => {
  harness = await createHarness()
})

const D = 8

interface Form {
  /** Shapes of q, k, v and of a past key and value. */
  readonly q: readonly number[]
  readonly kv: readonly number[]
  readonly past?: readonly number[]
  readonly mask?: readonly number[]
  readonly attributes?: Readonly<Record<string, bigint | number>>
  readonly outputs?: readonly string[]
  readonly opset?: number
}

function build({ q, kv, past, mask, attributes = {}, outputs = ['out'], opset = 23 }: Form) {
  const shapes: [string, readonly number[] | undefined][] = [
    ['q', q],
    ['k', kv],
    ['v', kv],
    ['mask', mask],
    ['past_key', past],
    ['past_value', past],
  ]
  const feeds: Record<string, Tensor> = {}
  const input: Parts['input'] = []
  for (const [index, [name, shape]] of shapes.entries()) {
    if (!shape) continue
    const count = shape.reduce((product, size) => product * size, 1)
    feeds[name] = harness.tensor(
      'float32',
      shape,
      name === 'mask' ? new Array(count).fill(0) : uniform(index + 1, count, 2),
    )
    // Heads and widths are told, the rest is free.
    const told = shape.map((size, axis) =>
      name !== 'mask' && (axis === shape.length - 1 || (axis === 1 && shape.length === 4)) ? size : `${name}_${axis}`,
    )
    input.push(value(name, 'f32', told))
  }
  const named = shapes.map(([name, shape]) => (shape ? name : ''))
  while (named.at(-1) === '') named.pop()
  const parts: Parts = {
    opset,
    input,
    output: ['y', ...outputs.slice(1)].filter((name) => name !== '').map((name) => value(name, 'f32')),
    node: [node('Attention', named, outputs, attributes), node('Tanh', ['out'], 'y')],
  }
  return { parts, feeds }
}

const heads = (count: number, length: number) => [2, count, length, D]
const flat = (count: number, length: number) => [2, length, count * D]
const present = ['out', 'present_key', 'present_value']

describe('Attention, like onnxruntime-web', () => {
  test.each<[string, Form]>([
    ['four axes, grouped heads', { q: heads(4, 5), kv: heads(2, 9) }],
    [
      'three axes, grouped heads, a scale',
      { q: flat(4, 5), kv: flat(2, 9), attributes: { q_num_heads: 4n, kv_num_heads: 2n, scale: 0.2 } },
    ],
    ['causal, over itself', { q: heads(2, 6), kv: heads(2, 6), attributes: { is_causal: 1n } }],
    [
      'causal with more keys than queries: counted from the first',
      { q: heads(2, 4), kv: heads(2, 9), attributes: { is_causal: 1n } },
    ],
    ['present keys without a past', { q: heads(2, 4), kv: heads(2, 4), outputs: present }],
    [
      'causal after a past',
      { q: heads(4, 3), kv: heads(2, 3), past: heads(2, 5), outputs: present, attributes: { is_causal: 1n } },
    ],
    [
      'causal after a past, three axes, more new keys than queries',
      {
        q: flat(4, 3),
        kv: flat(2, 6),
        past: heads(2, 5),
        outputs: present,
        attributes: { is_causal: 1n, q_num_heads: 4n, kv_num_heads: 2n },
      },
    ],
    ['a mask that hides nothing', { q: heads(2, 4), kv: heads(2, 7), mask: [4, 7] }],
    [
      'a mask besides causality, operator set 24',
      { q: heads(2, 4), kv: heads(2, 4), mask: [2, 1, 4, 4], attributes: { is_causal: 1n }, opset: 24 },
    ],
  ])('%s', async (_, form) => {
    const { parts, feeds } = build(form)
    const bytes = model(parts)
    await using attention = await harness.load(bytes)
    expect(attention.describe().attentions).toMatchObject([
      { prefill: 'dense', node: { opType: 'Attention', headDim: D } },
    ])
    await expectSameOutputs(await attention.run(feeds), await harness.reference(bytes, feeds))
  })

  test('causal with fewer keys than queries is refused', async () => {
    const { parts, feeds } = build({ q: heads(2, 5), kv: heads(2, 3), attributes: { is_causal: 1n } })
    await using attention = await harness.load(model(parts))
    await expect(attention.run(feeds)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      where: 'out_node',
      message: expect.stringContaining('causal with 5 queries after a past of 0, but with only 3 keys'),
    })
  })
})

describe('is kept, and the reason told', () => {
  const plain: Form = { q: [2, 2, 4, D], kv: [2, 2, 4, D] }
  const threeAxes: Form = { q: [2, 4, 32], kv: [2, 4, 24] }
  const obstacle = (
    { q, kv, past, ...form }: Form & { readonly extra?: Parts['node'] },
    inputs?: readonly string[],
  ) => {
    const names = ['q', 'k', 'v', ...(past ? ['past_key', 'past_value'] : [])]
    const shapes = [q, kv, kv, past, past]
    const input = names.map((name, i) => value(name, 'f32', shapes[i]))
    const given = inputs ?? (past ? ['q', 'k', 'v', '', 'past_key', 'past_value'] : names)
    const parts: Parts = {
      opset: form.opset ?? 23,
      input: [...input, value('lengths', 'i64', [2])],
      output: [value('out', 'f32')],
      node: [...(form.extra ?? []), node('Attention', given, form.outputs ?? ['out'], form.attributes ?? {})],
      initializer: [tensor('bias', [4, 4], uniform(1, 16))],
    }
    return findAttentions(readGraph(modelProto(parts)))[0]!.node.obstacle
  }
  test.each<[string, Parameters<typeof obstacle>, string]>([
    ['a soft cap', [{ ...plain, attributes: { softcap: 30 } }], 'softcap is 30'],
    ['scores as an output', [{ ...plain, outputs: ['out', '', '', 'scores'] }], "qk_matmul_output ('scores')"],
    [
      'padding of keys',
      [{ ...plain, opset: 24 }, ['q', 'k', 'v', '', '', '', 'lengths']],
      "nonpad_kv_seqlen ('lengths')",
    ],
    ['a scale of NaN', [{ ...plain, attributes: { scale: Number.NaN } }], 'its scale is NaN'],
    ['a scale of 0', [{ ...plain, attributes: { scale: 0 } }], 'its scale is 0'],
    ['an attribute of the future', [{ ...plain, attributes: { sinks: 1n } }], 'attribute sinks is not known'],
    ['an attribute of another type', [{ ...plain, attributes: { scale: 1n } }], 'attribute scale has the wrong type'],
    ['heads that do not divide', [{ ...plain, kv: [2, 3, 4, D] }], '2 query heads do not share 3 KV heads'],
    ['no heads', [{ ...threeAxes, attributes: { q_num_heads: 0n, kv_num_heads: 0n } }], '0 query heads'],
    ['three axes without heads', [threeAxes], '4 axes, not 3'],
    [
      'four axes with heads for three',
      [{ ...plain, attributes: { q_num_heads: 2n, kv_num_heads: 2n } }],
      '3 axes, not 4',
    ],
    [
      'heads that only a run tells',
      [{ ...plain, q: ['b', 'h', 'l', D] as never }],
      'does not tell its number of heads',
    ],
    ['a bias', [plain, ['q', 'k', 'v', 'bias']], "its mask 'bias' depends on the weights 'bias'"],
    [
      'causal with a past that is computed',
      [
        {
          ...plain,
          past: [2, 2, 3, D],
          attributes: { is_causal: 1n },
          extra: [node('Neg', ['past_key'], 'computed')],
        },
        ['q', 'k', 'v', '', 'computed', 'past_value'],
      ],
      'a past that is computed',
    ],
  ])('%s', (_, given, reason) => {
    expect(obstacle(...given)).toContain(reason)
  })

  test.each<[string, readonly string[]]>([
    ['no value', ['q', 'k']],
    ['no query', ['', 'k', 'v']],
    ['half a past', ['q', 'k', 'v', '', 'past_key']],
  ])('%s: an invalid file', (_, inputs) => {
    const given = { ...plain, past: [2, 2, 3, D] }
    expect(() => obstacle(given, inputs)).toThrow(expect.objectContaining({ code: 'INVALID_FILE', where: 'out_node' }))
  })
})
