import { create } from '@bufbuild/protobuf'
import { GraphProtoSchema } from 'onnx-buf'
import { describe, expect, test } from 'vitest'
import { int64, modelProto, node, type Parts, tensor, uniform, value } from '../test/build.js'
import { tinyLlama, tinyLlamaModel } from '../test/tiny-llama.js'
import { type Cut, cutGraph } from './cut.js'
import { findAttentions } from './find-attentions.js'
import { readGraph } from './graph.js'
import { parseModel } from './onnx.js'

/** Cuts at every attention, except those named. */
function cut(parts: Parts, kept: readonly string[] = []): Cut {
  const graph = readGraph(modelProto(parts))
  return cutGraph(
    graph,
    findAttentions(graph).filter(({ node }) => !kept.includes(node.name)),
  )
}

/** A readable form: what each piece takes, runs and gives, and the attentions after it. */
function summary({ levels }: Cut) {
  return levels.map(({ piece, attentions }) => ({
    inputs: piece?.inputs,
    nodes: piece?.nodes.map(({ output }) => output[0]),
    outputs: piece?.outputs,
    attentions: attentions.map(({ output }) => output),
  }))
}

const attend = (q: string, k: string, v: string, out: string) =>
  node('ms:MultiHeadAttention', [q, k, v], out, { num_heads: 2n })
const relu = (input: string, output: string) => node('Relu', [input], output)
const x = value('x', 'f32', [1, 'n', 32])

describe('pieces', () => {
  test('are as few as the dependencies between attentions allow', () => {
    const parts: Parts = {
      input: [x],
      output: [value('y', 'f32')],
      node: [
        relu('x', 'a'),
        attend('a', 'a', 'a', 'left'),
        node('Neg', ['x'], 'b'),
        attend('b', 'b', 'b', 'right'),
        node('Add', ['left', 'right'], 'sum'),
        attend('sum', 'a', 'b', 'after'),
        node('Add', ['after', 'x'], 'y'),
      ],
    }
    expect(summary(cut(parts))).toEqual([
      { inputs: ['x'], nodes: ['a', 'b'], outputs: ['a', 'b'], attentions: ['left', 'right'] },
      { inputs: ['right', 'left'], nodes: ['sum'], outputs: ['sum'], attentions: ['after'] },
      { inputs: ['x', 'after'], nodes: ['y'], outputs: ['y'], attentions: [] },
    ])
    expect(summary(cut(parts, ['after_node']))).toMatchObject([
      { attentions: ['left', 'right'] },
      { nodes: ['sum', 'after', 'y'], attentions: [] },
    ])
    expect(summary(cut(parts, ['left_node', 'right_node', 'after_node']))).toHaveLength(1)
  })

  test('do not depend on the order of the file', () => {
    const nodes = [relu('x', 'a'), attend('a', 'a', 'a', 'b'), relu('b', 'c'), attend('c', 'c', 'c', 'y')]
    const parts = { input: [x], output: [value('y', 'f32')] }
    const sorted = cut({ ...parts, node: nodes })
    expect(summary(cut({ ...parts, node: nodes.toReversed() }))).toEqual(summary(sorted))
  })

  test('repeat constants and arithmetic on shapes instead of handing them on', () => {
    const { levels } = cut({
      input: [x],
      output: [value('y', 'f32'), value('length', 'i64')],
      initializer: [
        tensor('w8', [32, 32], Int8Array.from(uniform(1, 1024, 100))),
        tensor('scale', [32], uniform(2, 32)),
        int64('index', [1]),
        int64('rest', [-1]),
      ],
      node: [
        node('DequantizeLinear', ['w8', 'scale'], 'w', { axis: 1n }),
        node('Shape', ['x'], 'shape'),
        node('Gather', ['shape', 'index'], 'length'),
        node('Concat', ['length', 'rest'], 'rows', { axis: 0n }),
        node('MatMul', ['x', 'w'], 'a'),
        attend('a', 'a', 'a', 'b'),
        node('MatMul', ['b', 'w'], 'c'),
        node('Reshape', ['c', 'rows'], 'y'),
      ],
    })
    const [first, second] = levels.map(({ piece }) => piece!)
    expect(first).toMatchObject({ inputs: ['x'], outputs: ['length', 'a'] })
    expect(second).toMatchObject({ inputs: ['x', 'b'], outputs: ['y'] })
    expect(second!.nodes.map(({ output }) => output[0])).toEqual(['w', 'shape', 'length', 'rows', 'c', 'y'])
    for (const { initializers } of [first!, second!]) {
      expect(initializers.map(({ name }) => name)).toContain('w8')
    }
  })

  test('compute random numbers once', () => {
    const { levels } = cut({
      input: [x],
      output: [value('y', 'f32')],
      node: [
        node('RandomNormal', [], 'noise', { shape: [1, 1, 32] }),
        node('Add', ['x', 'noise'], 'a'),
        attend('a', 'a', 'a', 'b'),
        node('Sub', ['b', 'noise'], 'y'),
      ],
    })
    expect(levels[0]!.piece!.outputs).toContain('noise')
    expect(levels[1]!.piece!.inputs).toContain('noise')
  })

  test('give branches what they take from outside', () => {
    const output = [value('t', 'f32')]
    const branch = create(GraphProtoSchema, { name: 'b', node: [node('Add', ['a', 'b'], 't')], output })
    const { levels } = cut({
      input: [x, value('flag', 'i32', [])],
      output: [value('y', 'f32')],
      node: [
        relu('x', 'a'),
        attend('a', 'a', 'a', 'b'),
        node('If', ['flag'], 'y', { then_branch: branch, else_branch: branch }),
      ],
    })
    expect(levels[1]!.piece!.inputs.toSorted()).toEqual(['a', 'b', 'flag'])
  })

  test('compute late what is needed only late', () => {
    const { levels } = cut({
      input: [x, value('keep', 'i64', [1])],
      output: [value('y', 'f32')],
      initializer: [int64('end', [1000]), int64('axis', [1])],
      node: [
        node('Neg', ['keep'], 'negative'),
        node('Abs', ['negative'], 'start'),
        relu('x', 'a'),
        attend('a', 'a', 'a', 'b'),
        node('Slice', ['b', 'start', 'end', 'axis'], 'y'),
      ],
    })
    expect(levels[0]!.piece!.outputs).toEqual(['a'])
    expect(levels[1]!.piece!.nodes.map(({ output }) => output[0])).toEqual(['negative', 'start', 'y'])
  })

  test('leave out what no output needs', () => {
    const nodes = [relu('x', 'a'), relu('a', 'dead'), attend('a', 'a', 'a', 'y'), attend('y', 'y', 'y', 'unused')]
    const { levels } = cut({ input: [x], output: [value('y', 'f32')], node: nodes }, ['unused_node'])
    expect(levels).toHaveLength(1)
    expect(levels[0]!.piece!.nodes.map(({ output }) => output[0])).toEqual(['a'])
  })
})

test('a Llama is cut once a layer, and only the residual stream crosses', () => {
  const graph = readGraph(parseModel(tinyLlamaModel()))
  const result = cutGraph(graph, findAttentions(graph))
  expect(result.levels).toHaveLength(tinyLlama.layers + 1)
  const crossing = [...result.lastUse.keys()].filter((name) => !graph.inputs.has(name))
  expect(crossing.toSorted()).toEqual([
    'attended_0',
    'attended_0_node/q_rotated',
    'attended_1',
    'attended_1_node/q_rotated',
    'hidden_0',
    'hidden_1',
    'present.0.key',
    'present.0.value',
    'present.1.key',
    'present.1.value',
  ])
  expect(result.host).toMatchObject({
    inputs: ['attention_mask', 'attention_mask/shape'],
    outputs: ['seqlens_k/host', 'total_sequence_length/host'],
  })
})
