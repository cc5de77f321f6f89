import { create, toBinary } from '@bufbuild/protobuf'
import { createRandom } from '@sparse-attention/testing'
import {
  type AttributeProto,
  AttributeProtoSchema,
  type GraphProto,
  GraphProtoSchema,
  AttributeProto_AttributeType as Kind,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  type TensorProto,
  TensorProtoSchema,
  TensorProto_DataType as Type,
  type ValueInfoProto,
} from 'onnx-buf'
import { type Dim, makeValueInfo } from '../src/onnx.js'

/** Builds small ONNX models for tests. */

type Attribute = bigint | number | string | readonly number[] | TensorProto | GraphProto

function attribute(name: string, value: Attribute): AttributeProto {
  if (typeof value === 'bigint') return create(AttributeProtoSchema, { name, type: Kind.INT, i: value })
  if (typeof value === 'number') return create(AttributeProtoSchema, { name, type: Kind.FLOAT, f: value })
  if (typeof value === 'string') {
    return create(AttributeProtoSchema, { name, type: Kind.STRING, s: new TextEncoder().encode(value) })
  }
  if ('length' in value) return create(AttributeProtoSchema, { name, type: Kind.INTS, ints: value.map(BigInt) })
  if (value.$typeName === 'onnx.GraphProto') return create(AttributeProtoSchema, { name, type: Kind.GRAPH, g: value })
  return create(AttributeProtoSchema, { name, type: Kind.TENSOR, t: value as TensorProto })
}

/** A standard operator; `ms:GroupQueryAttention` is one of com.microsoft. Named after its first output. */
export function node(
  op: string,
  input: readonly string[],
  output: string | readonly string[],
  attributes: Readonly<Record<string, Attribute>> = {},
): NodeProto {
  const outputs = typeof output === 'string' ? [output] : [...output]
  const [domain, opType] = op.startsWith('ms:') ? ['com.microsoft', op.slice(3)] : ['', op]
  return create(NodeProtoSchema, {
    name: `${outputs[0]}_node`,
    opType,
    domain,
    input: [...input],
    output: outputs,
    attribute: Object.entries(attributes).map(([name, value]) => attribute(name, value)),
  })
}

export function value(name: string, type: 'f32' | 'i64' | 'i32' | 'f16', dims?: readonly Dim[]): ValueInfoProto {
  return makeValueInfo(name, { f32: Type.FLOAT, i64: Type.INT64, i32: Type.INT32, f16: Type.FLOAT16 }[type], dims)
}

type Data = Float32Array | Int8Array | Int32Array | BigInt64Array

export function tensor(name: string, dims: readonly number[], data: Data): TensorProto {
  const dataType =
    data instanceof Float32Array
      ? Type.FLOAT
      : data instanceof Int8Array
        ? Type.INT8
        : data instanceof Int32Array
          ? Type.INT32
          : Type.INT64
  const rawData = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength)
  return create(TensorProtoSchema, { name, dataType, dims: dims.map(BigInt), rawData })
}

export function int64(name: string, values: number | readonly number[]): TensorProto {
  const list = typeof values === 'number' ? [values] : values
  return tensor(name, typeof values === 'number' ? [] : [list.length], BigInt64Array.from(list.map(BigInt)))
}

export interface Parts {
  readonly input: ValueInfoProto[]
  readonly output: ValueInfoProto[]
  readonly node: NodeProto[]
  readonly initializer?: TensorProto[]
  readonly valueInfo?: ValueInfoProto[]
  readonly opset?: number
}

export function modelProto({ opset = 18, ...graph }: Parts): ModelProto {
  const operators = (domain: string, version: number) =>
    create(OperatorSetIdProtoSchema, { domain, version: BigInt(version) })
  return create(ModelProtoSchema, {
    irVersion: 8n,
    opsetImport: [operators('', opset), operators('com.microsoft', 1)],
    graph: create(GraphProtoSchema, { name: 'test', ...graph }),
  })
}

export function model(parts: Parts): Uint8Array {
  return toBinary(ModelProtoSchema, modelProto(parts))
}

/** Uniform in [−1, 1) · scale. */
export function uniform(seed: number, count: number, scale = 1): Float32Array {
  const random = createRandom(seed)
  return Float32Array.from({ length: count }, () => (2 * random.uniform() - 1) * scale)
}

/** cos and sin of position · 10000^(−i / width), f32 [positions, width]. */
export function rotaryCaches(positions: number, width: number): [cos: TensorProto, sin: TensorProto] {
  const table = (name: string, f: (angle: number) => number) =>
    tensor(
      name,
      [positions, width],
      Float32Array.from({ length: positions * width }, (_, i) =>
        f(Math.floor(i / width) * 10_000 ** (-(i % width) / width)),
      ),
    )
  return [table('cos_cache', Math.cos), table('sin_cache', Math.sin)]
}
