import { create, toBinary } from '@bufbuild/protobuf'
import { type Runtime, SparseAttentionError } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { createRandom } from '@sparse-attention/testing'
import {
  FunctionProtoSchema,
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  SparseTensorProtoSchema,
  StringStringEntryProtoSchema,
  type TensorProto,
  TensorProto_DataLocation,
  TypeProto_SequenceSchema,
  TypeProtoSchema,
} from 'onnx-buf'
import { describe, expect, test } from 'vitest'
import { int64, model, modelProto, node, type Parts, tensor, value } from '../test/build.js'
import { readGraphFile } from '../test/read-export.js'
import { tinyLlamaModel } from '../test/tiny-llama.js'
import { writtenOut } from '../test/written-out.js'
import { findAttentions } from './find-attentions.js'
import { readGraph } from './graph.js'
import { AttentionModel, type Ort } from './index.js'

// Malformed and malicious files are refused on the host: neither the GPU nor onnxruntime-web is touched.
const touched: string[] = []
const watched = (what: string): never =>
  new Proxy({} as never, {
    get: (_, key) => {
      touched.push(`${what}.${String(key)}`)
      throw new Error(`${what}.${String(key)} was used`)
    },
  })
const runtime = { assertUsable() {}, software: true, device: watched('device') } as unknown as Runtime
const ort: Ort = { InferenceSession: watched('InferenceSession'), Tensor: watched('Tensor') }

type Choice = 'keep' | 'replace'

/** The error with which a model is refused; undefined when it got as far as the first session. */
async function check(bytes: Uint8Array, choice: Choice): Promise<SparseAttentionError | undefined> {
  touched.length = 0
  const load = AttentionModel.load(runtime, ort, bytes, { attention: () => (choice === 'keep' ? 'keep' : dense()) })
  const error: unknown = await load.catch((reason: unknown) => reason)
  if (touched.length > 0) return undefined
  if (!SparseAttentionError.is(error)) throw error
  return error
}

async function refusal(bytes: Uint8Array, choice: Choice = 'replace'): Promise<SparseAttentionError> {
  return (await check(bytes, choice)) ?? expect.unreachable(`accepted: ${touched} was used`)
}

const HEADS = 2
const HIDDEN = 32

/** query, key and value through one MultiHeadAttention. */
function plain(change: Partial<Parts> = {}): Parts {
  const names = ['query', 'key', 'value']
  return {
    input: names.map((name) => value(name, 'f32', ['batch', 'length', HIDDEN])),
    output: [value('out', 'f32')],
    node: [node('ms:MultiHeadAttention', names, 'out', { num_heads: BigInt(HEADS) })],
    ...change,
  }
}

function changed(change: (proto: ModelProto) => void): Uint8Array {
  const proto = modelProto(plain())
  change(proto)
  return toBinary(ModelProtoSchema, proto)
}

const relu = (input: string, output: string) => node('Relu', [input], output)
const attention = node('ms:MultiHeadAttention', ['query', 'key', 'value'], 'out', { num_heads: 2n })
const weight = (change: Partial<TensorProto>): Uint8Array => {
  const initializer = { ...tensor('w', [2, 3], new Float32Array(6)), ...change } as TensorProto
  return model(plain({ node: [attention, node('Add', ['out', 'w'], 'sum')], initializer: [initializer] }))
}

function externalAt(location: string): Uint8Array {
  const entry = create(StringStringEntryProtoSchema, { key: 'location', value: location })
  return weight({
    dataLocation: TensorProto_DataLocation.EXTERNAL,
    externalData: [entry],
    rawData: new Uint8Array(),
  })
}

const branch = (inner: Parts['node']) =>
  create(GraphProtoSchema, { name: 'branch', node: inner, output: [value(inner[0]!.output[0]!, 'f32')] })

describe('files that are no models', () => {
  test.each<[string, Uint8Array, string]>([
    ['nothing', new Uint8Array(), 'no ONNX graph'],
    ['text', new TextEncoder().encode('<!doctype html><title>404 Not Found</title>'), 'not an ONNX model'],
    ['a nesting of 400 graphs', nested(400), 'recursion depth'],
  ])('%s', async (_, bytes, message) => {
    const error = await refusal(bytes)
    expect(error.code).toBe('INVALID_FILE')
    expect(error.message).toContain(message)
  })

  test('a model cut short at any place', async () => {
    const whole = tinyLlamaModel()
    for (let i = 1; i < 200; i++) {
      const error = await refusal(whole.subarray(0, Math.floor((whole.length * i) / 200)))
      expect(error.code).toBe('INVALID_FILE')
    }
  })

  test('a model in which any length promises more than there is: refused, and no memory taken on its word', async () => {
    const whole = tinyLlamaModel()
    const before = process.memoryUsage().arrayBuffers
    let cases = 0
    for (const at of lengthsIn(whole)) {
      // 2³¹ − 1, 2³⁵ − 1 and the longest that a varint can be.
      for (const length of [
        [255, 255, 255, 255, 7],
        [255, 255, 255, 255, 127],
        [...new Array(9).fill(255), 1],
      ]) {
        const end = at + varintBytes(whole, at)
        const bytes = Uint8Array.from([...whole.subarray(0, at), ...length, ...whole.subarray(end)])
        const error = await refusal(bytes)
        expect(error.code).toBe('INVALID_FILE')
        cases++
      }
    }
    expect(cases).toBeGreaterThan(60)
    // The copies of the file made here, of a few hundred kilobytes each, and nothing of gigabytes.
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(512 * 2 ** 20)
  })

  test('a model with bytes changed at random is refused with a typed error, or is another valid model (seed 5)', async () => {
    const random = createRandom(5)
    const whole = tinyLlamaModel()
    let refused = 0
    for (let i = 0; i < 300; i++) {
      const bytes = whole.slice()
      // In the nodes and declarations; most of the rest is weights.
      for (let j = 0; j < 4; j++) bytes[random.integer(0, Math.min(3000, bytes.length - 1))] = random.integer(0, 255)
      if (await check(bytes, 'replace')) refused++
    }
    expect(refused).toBeGreaterThan(200)
  })

  test('an export with bytes changed at random is refused with a typed error, or is another valid model (seed 6)', async () => {
    const random = createRandom(6)
    const whole = await readGraphFile('bert-sdpa-script-17')
    let refused = 0
    for (let i = 0; i < 100; i++) {
      const bytes = whole.slice()
      // In its nodes, which come first.
      for (let j = 0; j < 3; j++) bytes[random.integer(0, 40_000)] = random.integer(0, 255)
      if (await check(bytes, 'replace')) refused++
    }
    expect(refused).toBeGreaterThan(20)
  })
})

/** Where the lengths of a model's fields stand: its own, those of its graph, and those of the first nodes. */
function lengthsIn(bytes: Uint8Array): number[] {
  const found: number[] = []
  const visit = (from: number, to: number, depth: number) => {
    for (let at = from; at < to && found.length < 40; ) {
      const wire = bytes[at]! & 7
      at += varintBytes(bytes, at)
      if (wire === 0) at += varintBytes(bytes, at)
      else if (wire === 5) at += 4
      else if (wire === 1) at += 8
      else {
        found.push(at)
        const start = at + varintBytes(bytes, at)
        let length = 0
        for (let i = start - 1; i >= at; i--) length = length * 128 + (bytes[i]! & 127)
        // The graph is the one long field of a model; nodes come first in it.
        if (depth < 2 && length > 60) visit(start, start + length, depth + 1)
        at = start + length
      }
    }
  }
  visit(0, bytes.length, 0)
  return found
}

function varintBytes(bytes: Uint8Array, at: number): number {
  let count = 1
  while ((bytes[at + count - 1]! & 128) !== 0) count++
  return count
}

/** A graph in an attribute of a node of a graph, and so on: two bytes a level, written from the inside out. */
function nested(depth: number): Uint8Array {
  const field = (number: number, inner: Uint8Array): Uint8Array => {
    const length: number[] = []
    let rest = inner.length
    for (; rest > 127; rest >>>= 7) length.push((rest & 127) | 128)
    return Uint8Array.from([(number << 3) | 2, ...length, rest, ...inner])
  }
  let graph: Uint8Array = new Uint8Array()
  for (let i = 0; i < depth; i++) graph = field(1, field(5, field(6, graph)))
  return field(7, graph)
}

describe('structure', () => {
  const cases: [string, Uint8Array, code: string, message: string][] = [
    [
      'a cycle',
      model(plain({ node: [attention, node('Add', ['out', 'b'], 'a'), relu('a', 'b')] })),
      'INVALID_FILE',
      'is part of a cycle',
    ],
    ['a node that reads its own output', model(plain({ node: [attention, relu('a', 'a')] })), 'INVALID_FILE', 'a_node'],
    [
      'a cycle through the attention',
      model(plain({ node: [node('ms:MultiHeadAttention', ['back', 'key', 'value'], 'out'), relu('out', 'back')] })),
      'INVALID_FILE',
      'is part of a cycle',
    ],
    [
      'two nodes that write one value',
      model(plain({ node: [attention, relu('query', 'a'), relu('key', 'a')] })),
      'INVALID_FILE',
      "both write 'a'",
    ],
    [
      'a node that writes an input',
      model(plain({ node: [attention, relu('key', 'query')] })),
      'INVALID_FILE',
      "query_node writes 'query'",
    ],
    [
      'two inputs of one name',
      model(plain({ input: [...plain().input, value('key', 'f32')] })),
      'INVALID_FILE',
      "Two graph inputs are called 'key'",
    ],
    [
      'two initializers of one name',
      model(plain({ initializer: [tensor('w', [1], new Float32Array(1)), tensor('w', [1], new Float32Array(1))] })),
      'INVALID_FILE',
      "Two initializers are called 'w'",
    ],
    [
      'two outputs of one name',
      model(plain({ output: [value('out', 'f32'), value('out', 'f32')] })),
      'INVALID_FILE',
      "Two graph outputs are called 'out'",
    ],
    ['an input without a name', model(plain({ input: [value('', 'f32')] })), 'INVALID_FILE', 'has no name'],
    [
      'a node that reads what nobody writes',
      model(plain({ node: [attention, relu('ghost', 'a')] })),
      'INVALID_FILE',
      "a_node reads 'ghost'",
    ],
    [
      'a branch that reads what nobody writes',
      model(plain({ node: [attention, node('If', ['out'], 'a', { then_branch: branch([relu('ghost', 't')]) })] })),
      'INVALID_FILE',
      "a_node reads 'ghost'",
    ],
    ['an output that nobody writes', model(plain({ output: [value('ghost', 'f32')] })), 'INVALID_FILE', "'ghost'"],
    ['no outputs', model(plain({ output: [] })), 'INVALID_FILE', 'no outputs'],
    ['a node without a type', model(plain({ node: [attention, node('', ['out'], 'a')] })), 'INVALID_FILE', 'a_node'],
    ['an input without a type', changed((p) => delete p.graph!.input[0]!.type), 'INVALID_FILE', "'query' has no type"],
    ['no operator set', changed((p) => p.opsetImport.splice(0)), 'INVALID_FILE', 'which version'],
    ['an operator set of 2018', model(plain({ opset: 9 })), 'UNSUPPORTED', 'version 9'],
    ['an input that is a sequence', changed(withSequenceInput), 'UNSUPPORTED', "'query' is not a tensor"],
    ['a sparse initializer', changed(withSparseInitializer), 'UNSUPPORTED', "'w' is sparse"],
    [
      'no attention at all',
      model(plain({ node: [relu('query', 'out')] })),
      'UNSUPPORTED',
      'has no attention of a form',
    ],
    [
      'an attention of another kind',
      model(plain({ node: [node('ms:Attention', ['query', 'key'], 'out', { num_heads: 2n })] })),
      'UNSUPPORTED',
      'Node out_node is com.microsoft.Attention',
    ],
    [
      'an attention in a branch',
      model(
        plain({
          node: [
            node('If', ['query'], 'out', {
              then_branch: branch([
                node('ms:MultiHeadAttention', ['query', 'key', 'value'], 'deep', { num_heads: 2n }),
              ]),
            }),
          ],
        }),
      ),
      'UNSUPPORTED',
      'deep_node: it is inside a branch or loop of node out_node',
    ],
    ['an attention in a function', changed(withFunction), 'UNSUPPORTED', 'inside the function block'],
  ]
  test.each(cases)('%s', async (_, bytes, code, message) => {
    const error = await refusal(bytes, 'keep')
    expect([error.code, error.message]).toEqual([code, expect.stringContaining(message)])
    expect(error.where).toBeTruthy()
  })
})

function withSequenceInput({ graph }: ModelProto): void {
  const inner = graph!.input[0]!.type!
  const sequence = create(TypeProto_SequenceSchema, { elemType: inner })
  graph!.input[0]!.type = create(TypeProtoSchema, { value: { case: 'sequenceType', value: sequence } })
}

function withSparseInitializer({ graph }: ModelProto): void {
  const values = tensor('w', [1], new Float32Array(1))
  graph!.sparseInitializer.push(create(SparseTensorProtoSchema, { values, dims: [4n] }))
}

function withFunction(proto: ModelProto): void {
  proto.functions.push(create(FunctionProtoSchema, { name: 'block', node: [attention] }))
}

describe('stored tensors', () => {
  const cases: [string, Uint8Array, code: string, message: string][] = [
    ['too few bytes', weight({ rawData: new Uint8Array(20) }), 'INVALID_FILE', 'needs 24 bytes, the file has 20'],
    ['too many bytes', weight({ rawData: new Uint8Array(28) }), 'INVALID_FILE', 'needs 24 bytes, the file has 28'],
    ['no data', weight({ rawData: new Uint8Array() }), 'INVALID_FILE', 'needs 6 entries, the file has 0'],
    ['a negative dim', weight({ dims: [-2n, 3n] }), 'INVALID_FILE', 'has the dims [-2,3]'],
    ['dims whose product overflows', weight({ dims: [2n ** 62n, 2n ** 62n] }), 'INVALID_FILE', 'has the dims'],
    ['an unknown type', weight({ dataType: 77 }), 'INVALID_FILE', 'unknown data type 77'],
    ['data in another file', externalAt('weights.bin'), 'INVALID_ARGUMENT', "outside the model, in 'weights.bin'"],
    ['data in a folder below', externalAt('data/weights.bin'), 'INVALID_ARGUMENT', "in 'data/weights.bin'"],
    ['data in the folder above', externalAt('../weights.bin'), 'INVALID_FILE', "not a file in the model's folder"],
    ['data further up', externalAt('a/../../weights.bin'), 'INVALID_FILE', "not a file in the model's folder"],
    ['data at an absolute path', externalAt('/etc/passwd'), 'INVALID_FILE', "not a file in the model's folder"],
    ['data on another drive', externalAt('c:\\secret'), 'INVALID_FILE', "not a file in the model's folder"],
    ['data at a share', externalAt('\\\\host\\secret'), 'INVALID_FILE', "not a file in the model's folder"],
    ['data at a URL', externalAt('http://host/secret'), 'INVALID_FILE', "not a file in the model's folder"],
    ['a path with a zero byte', externalAt('weights\0.bin'), 'INVALID_FILE', "not a file in the model's folder"],
    ['data nowhere', externalAt(''), 'INVALID_FILE', "not a file in the model's folder"],
    [
      'a bad tensor in an attribute',
      model(plain({ node: [attention, node('Constant', [], 'c', { value: badTensor() })] })),
      'INVALID_FILE',
      "attribute 'value' of node c_node",
    ],
    [
      'a bad tensor in a branch',
      model(
        plain({
          node: [
            attention,
            node('If', ['out'], 'a', { then_branch: branch([node('Constant', [], 'c', { value: badTensor() })]) }),
          ],
        }),
      ),
      'INVALID_FILE',
      "attribute 'value' of node c_node",
    ],
  ]
  test.each(cases)('%s', async (_, bytes, code, message) => {
    const error = await refusal(bytes, 'keep')
    expect([error.code, error.message]).toEqual([code, expect.stringContaining(message)])
  })
})

function badTensor(): TensorProto {
  return { ...tensor('t', [4], new Float32Array(4)), dims: [5n] }
}

/** GroupQueryAttention with packed q, k and v. */
function grouped(change: {
  readonly inputs?: Readonly<Record<number, string>>
  readonly attributes?: Readonly<Record<string, bigint | number | string>>
  readonly outputs?: readonly string[]
}): Uint8Array {
  const inputs = ['query', '', '', '', '', 'seqlens', 'total']
  for (const [index, name] of Object.entries(change.inputs ?? {})) inputs[Number(index)] = name
  const names = [...new Set(inputs.filter((name) => name !== ''))]
  const given = { num_heads: 4n, kv_num_heads: 2n, ...change.attributes }
  const input = Array.from(inputs, (name) => name ?? '')
  return model({
    input: names.map((name) => value(name, name === 'query' ? 'f32' : 'i32', name === 'query' ? [1, 'n', 128] : ['m'])),
    output: [value('out', 'f32')],
    node: [node('ms:GroupQueryAttention', input, change.outputs ?? 'out', given)],
  })
}

const multiHead = (inputs: readonly string[], attributes: Readonly<Record<string, bigint | number | string>> = {}) =>
  model({
    input: [...new Set(inputs.filter((name) => name !== ''))].map((name) => value(name, 'f32', [1, 'n', HIDDEN])),
    output: [value('out', 'f32')],
    node: [node('ms:MultiHeadAttention', inputs, 'out', { num_heads: 2n, ...attributes })],
  })

describe('graphs made to keep a pattern matcher busy', () => {
  const chain = (op: string, count: number, name: string, inputs: (value: string) => string[]) =>
    Array.from({ length: count }, (_, i) => node(op, inputs(i === 0 ? 'mask' : `${name}${i - 1}`), `${name}${i}`))
  const masked = (nodes: Parts['node'], last: string): Parts =>
    writtenOut({
      maskInputs: [value('mask', 'f32', ['b', 1, 'queries', 'keys'])],
      initializer: [int64('five', [1, 1, 1, 1]), int64('minus', [-1]), int64('one_axis', [3])],
      mask: (scores) => ({ nodes: [...nodes, node('Add', [scores, last], 'masked')], masked: 'masked' }),
    })
  test.each<[string, Parts]>([
    [
      '20000 names for one mask',
      masked(
        chain('Identity', 20_000, 'i', (x) => [x]),
        'i19999',
      ),
    ],
    [
      '20000 expansions of a mask',
      masked(
        chain('Expand', 20_000, 'e', (x) => [x, 'five']),
        'e19999',
      ),
    ],
    [
      'a mask that is all of 2^60 conditions',
      masked(
        [
          node('Cast', ['mask'], 'bool', { to: 9n }),
          ...chain('And', 60, 'a', (x) => (x === 'mask' ? ['bool', 'bool'] : [x, x])),
          node('Where', ['a59', 'zero', 'low'], 'chosen'),
        ],
        'chosen',
      ),
    ],
    [
      'a sum of 2^60 masks',
      masked(
        chain('Add', 60, 's', (x) => [x, x]),
        's59',
      ),
    ],
    [
      '20000 scales',
      writtenOut({
        mask: (scores) => ({
          nodes: chain('Mul', 20_000, 'm', (x) => [x === 'mask' ? scores : x, 'factor']),
          masked: 'm19999',
        }),
      }),
    ],
  ])('%s', async (_, parts) => {
    const found = findAttentions(readGraph(modelProto(parts)))
    expect(found).toHaveLength(1)
    expect(found[0]!.node.opType).toBe('Softmax')
    expect(await check(model(parts), 'keep')).toBeUndefined()
  })
})

describe('malformed attention nodes', () => {
  const qkv = ['query', 'key', 'value']
  const cases: [string, Uint8Array, string][] = [
    ['no heads', multiHead(qkv, { num_heads: 0n }), 'has num_heads 0'],
    ['negative heads', grouped({ attributes: { kv_num_heads: -2n } }), 'has kv_num_heads -2'],
    ['absurdly many heads', grouped({ attributes: { num_heads: 2n ** 40n } }), 'has num_heads 1099511627776'],
    ['heads that do not divide', grouped({ attributes: { num_heads: 5n } }), 'has num_heads 5, which kv_num_heads 2'],
    ['heads as text', multiHead(qkv, { num_heads: 'two' }), 'has num_heads two'],
    ['a scale that is no number', multiHead(qkv, { scale: Number.NaN }), 'has the scale NaN'],
    ['an infinite scale', multiHead(qkv, { scale: Number.POSITIVE_INFINITY }), 'has the scale Infinity'],
    ['a value without a key', multiHead(['query', '', 'value']), 'has a value but no key'],
    ['a key without a value', grouped({ inputs: { 1: 'key' } }), 'has only one of key and value'],
    ['half a past', grouped({ inputs: { 3: 'past' } }), 'has only one of past_key and past_value'],
    ['half a present', grouped({ outputs: ['out', 'present'] }), 'has only one of present_key and present_value'],
    ['no query', multiHead(['', 'key', 'value']), 'has no query'],
    ['no output', grouped({ outputs: ['', 'out', 'b'] }), 'has no output'],
    ['no seqlens_k', grouped({ inputs: { 5: '' } }), 'has no seqlens_k'],
    ['no total_sequence_length', grouped({ inputs: { 6: '' } }), 'has no total_sequence_length'],
    ['rotary without tables', grouped({ attributes: { do_rotary: 1n } }), 'has do_rotary but no cos_cache'],
    ['an attribute twice', changed((p) => p.graph!.node[0]!.attribute.push(p.graph!.node[0]!.attribute[0]!)), 'two'],
  ]
  test.each(cases)('%s', async (_, bytes, message) => {
    const error = await refusal(bytes, 'keep')
    expect([error.code, error.message]).toEqual(['INVALID_FILE', expect.stringContaining(message)])
  })
})

describe('attention that would mean something else', () => {
  const cases: [string, Uint8Array, string][] = [
    ['softcap', grouped({ attributes: { softcap: 50 } }), 'attribute softcap is 50'],
    ['a local window', grouped({ attributes: { local_window_size: 128n } }), 'attribute local_window_size is 128'],
    ['smooth softmax', grouped({ attributes: { smooth_softmax: 1n } }), 'attribute smooth_softmax is 1'],
    ['a quantised cache', grouped({ attributes: { k_quant_type: 'PER_TENSOR' } }), 'k_quant_type is PER_TENSOR'],
    ['scores as an output', grouped({ attributes: { qk_output: 2n } }), 'attribute qk_output is 2'],
    ['an attribute of the future', grouped({ attributes: { phase_of_moon: 0.25 } }), 'phase_of_moon is not known'],
    ['an attention bias', grouped({ inputs: { 10: 'bias' } }), "input attention_bias ('bias')"],
    ['a head sink', grouped({ inputs: { 11: 'sink' } }), "input head_sink ('sink')"],
    ['a fourth output', grouped({ outputs: ['out', 'k', 'v', 'scores'] }), "output 3 ('scores')"],
    ['a padding mask', multiHead(['query', 'key', 'value', '', 'mask']), "input key_padding_mask ('mask')"],
    ['a bias on the scores', multiHead(['query', 'key', 'value', '', '', 'b']), "input attention_bias ('b')"],
  ]
  test.each(cases)('%s is refused, naming the node', async (_, bytes, message) => {
    const error = await refusal(bytes)
    expect([error.code, error.where, error.message]).toEqual([
      'UNSUPPORTED',
      'out_node',
      expect.stringContaining(message),
    ])
  })

  test.each(cases)('%s is left to onnxruntime-web by keep', async (_, bytes) => {
    expect(await check(bytes, 'keep')).toBeUndefined()
    expect(touched).toEqual(['InferenceSession.create'])
  })
})
