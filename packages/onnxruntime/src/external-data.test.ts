import { create, toBinary } from '@bufbuild/protobuf'
import { SparseAttentionError } from '@sparse-attention/core'
import { ModelProtoSchema, StringStringEntryProtoSchema, TensorProto_DataLocation } from 'onnx-buf'
import { beforeAll, describe, expect, test } from 'vitest'
import { modelProto, node, tensor, uniform, value } from '../test/build.js'
import { createHarness, expectSameOutputs, type Harness } from '../test/harness.js'
import { type ExternalData, readExternalData } from './external-data.js'
import type { ModelProto } from './onnx.js'

let harness: Harness
beforeAll(async () => {
  harness = await createHarness()
})

const WIDTH = 32
const weights = uniform(3, 2 * WIDTH * WIDTH)
/** Two matrices, the second in an attribute, after four bytes of something else. */
const file = new Uint8Array(4 + weights.byteLength)
file.set(new Uint8Array(weights.buffer), 4)

function build(): ModelProto {
  const half = WIDTH * WIDTH
  const second = tensor('', [WIDTH, WIDTH], weights.subarray(half))
  return modelProto({
    input: [value('x', 'f32', [1, 'n', WIDTH])],
    output: [value('y', 'f32')],
    initializer: [tensor('w', [WIDTH, WIDTH], weights.subarray(0, half))],
    node: [
      node('Constant', [], 'u', { value: second }),
      node('MatMul', ['x', 'w'], 'q'),
      node('MatMul', ['x', 'u'], 'k'),
      node('ms:MultiHeadAttention', ['q', 'k', 'k'], 'y', { num_heads: 2n }),
    ],
  })
}

type Place = Readonly<Record<string, string>>

/** The model with its matrices in other files. */
function external(...places: readonly Place[]): ModelProto {
  const proto = build()
  const tensors = [proto.graph!.initializer[0]!, proto.graph!.node[0]!.attribute[0]!.t!]
  for (const [index, tensor] of tensors.entries()) {
    const place = places[index] ?? places[0]!
    tensor.rawData = new Uint8Array()
    tensor.dataLocation = TensorProto_DataLocation.EXTERNAL
    tensor.externalData = Object.entries(place).map(([key, value]) =>
      create(StringStringEntryProtoSchema, { key, value }),
    )
  }
  return proto
}

const bytesOfMatrix = WIDTH * WIDTH * 4
const first: Place = { location: 'w.bin', offset: '4', length: String(bytesOfMatrix) }
const second: Place = { location: 'w.bin', offset: String(4 + bytesOfMatrix), checksum: 'ignored' }

describe('a model with weights in another file', () => {
  test.each<[string, ExternalData]>([
    ['as bytes', { 'w.bin': file }],
    ['as an ArrayBuffer', { 'w.bin': file.buffer.slice(0) }],
    ['found by a function', async (path) => (path === 'w.bin' ? file : undefined)],
  ])('%s, is the model with weights inside', async (_, externalData) => {
    const bytes = toBinary(ModelProtoSchema, external(first, second))
    const inside = toBinary(ModelProtoSchema, build())
    await using model = await harness.load(bytes, { externalData })
    const feeds = { x: harness.tensor('float32', [1, 5, WIDTH], uniform(1, 5 * WIDTH)) }
    await expectSameOutputs(await model.run(feeds), await harness.reference(inside, feeds))
  })

  test('asks for each file once', async () => {
    const asked: string[] = []
    await readExternalData(external(first, second), (path) => {
      asked.push(path)
      return file
    })
    expect(asked).toEqual(['w.bin'])
  })

  const beyond = String(4 + bytesOfMatrix + 4)
  const cases: [string, Place, ExternalData | undefined, code: string, message: string][] = [
    ['that is not given', first, undefined, 'INVALID_ARGUMENT', "in 'w.bin', which is not given"],
    ['that is given by another name', first, { 'x.bin': file }, 'INVALID_ARGUMENT', 'not given'],
    ['called like a property of every object', { location: 'constructor' }, {}, 'INVALID_ARGUMENT', 'not given'],
    ['that is given as text', first, { 'w.bin': 'AAAA' as never }, 'INVALID_ARGUMENT', 'something else'],
    ['that is given as floats', first, { 'w.bin': weights as never }, 'INVALID_ARGUMENT', 'something else'],
    ['that cannot be read', first, () => Promise.reject(new Error('404')), 'INVALID_ARGUMENT', 'cannot be read: 404'],
    ['that is too short', { ...first, offset: beyond }, { 'w.bin': file.subarray(0, 4000) }, 'INVALID_FILE', '4000'],
    ['with a length too small', { ...first, length: '64' }, { 'w.bin': file }, 'INVALID_FILE', 'needs 4096 bytes'],
    ['with a length too large', { ...first, length: '8192' }, { 'w.bin': file }, 'INVALID_FILE', "'w.bin' has 8192"],
    ['with a negative offset', { ...first, offset: '-4' }, { 'w.bin': file }, 'INVALID_FILE', "the offset '-4'"],
    ['with an offset in words', { ...first, offset: 'four' }, { 'w.bin': file }, 'INVALID_FILE', "the offset 'four'"],
    [
      'with an offset past all numbers',
      { ...first, offset: '9'.repeat(30) },
      { 'w.bin': file },
      'INVALID_FILE',
      'offset',
    ],
    ['above the folder', { location: '../w.bin' }, () => expect.unreachable(), 'INVALID_FILE', 'not a file in'],
    ['at a URL', { location: 'https://host/w' }, () => expect.unreachable(), 'INVALID_FILE', 'not a file in'],
    ['at an absolute path', { location: '/etc/passwd' }, () => expect.unreachable(), 'INVALID_FILE', 'not a file in'],
  ]
  test.each(cases)('%s, is refused', async (_, place, files, code, message) => {
    // The second tensor's path is the bad one: nothing is asked for before all are looked at.
    const proto = code === 'INVALID_FILE' && typeof files === 'function' ? external(first, place) : external(place)
    const error: unknown = await readExternalData(proto, files).catch((reason: unknown) => reason)
    expect(SparseAttentionError.is(error) && [error.code, error.message]).toEqual([
      code,
      expect.stringContaining(message),
    ])
  })
})
