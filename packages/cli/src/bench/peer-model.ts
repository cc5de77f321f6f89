import { create, toBinary } from '@bufbuild/protobuf'
import type { BenchInput } from '@sparse-attention/compare'
import {
  type AttributeProto,
  AttributeProtoSchema,
  GraphProtoSchema,
  AttributeProto_AttributeType as Kind,
  ModelProtoSchema,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TensorProto_DataType as Type,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from 'onnx-buf'

/** An operator of com.microsoft as a model of one node: what onnxruntime has for attention. */
export interface PeerModel {
  readonly operator: 'GroupQueryAttention' | 'MultiHeadAttention'
  readonly bytes: Uint8Array
}

/**
 * The model for a call, all lengths left open: `GroupQueryAttention` where it is causal, which is all that operator knows,
 * else `MultiHeadAttention`, which has no grouped heads.
 *
 * @returns undefined where onnxruntime has no such operator
 */
export function peerModel(
  { queryHeads, kvHeads, dtype }: Pick<BenchInput, 'queryHeads' | 'kvHeads' | 'dtype'>,
  { causal, scale }: { readonly causal: boolean; readonly scale: number },
): PeerModel | undefined {
  const float = dtype === 'f16' ? Type.FLOAT16 : Type.FLOAT
  const tokens = ['batch', 'length', 'width']
  const inputs = ['query', 'key', 'value'].map((name) => value(name, float, tokens))
  const output = value('output', float, tokens)
  if (causal) {
    const operator = 'GroupQueryAttention'
    const attributes = [integer('num_heads', queryHeads), integer('kv_num_heads', kvHeads), number('scale', scale)]
    const sequence = [value('seqlens_k', Type.INT32, ['batch']), value('total_sequence_length', Type.INT32, [1])]
    const cached = ['batch', kvHeads, 'length', 'head_dim']
    const presents = ['present_key', 'present_value'].map((name) => value(name, float, cached))
    const names = ['query', 'key', 'value', '', '', 'seqlens_k', 'total_sequence_length']
    const bytes = model(operator, names, attributes, [...inputs, ...sequence], [output, ...presents])
    return { operator, bytes }
  }
  if (queryHeads !== kvHeads) return undefined
  const operator = 'MultiHeadAttention'
  const attributes = [integer('num_heads', queryHeads), number('scale', scale)]
  return { operator, bytes: model(operator, ['query', 'key', 'value'], attributes, inputs, [output]) }
}

function model(
  opType: string,
  input: string[],
  attribute: AttributeProto[],
  inputs: ValueInfoProto[],
  outputs: ValueInfoProto[],
): Uint8Array {
  const output = outputs.map(({ name }) => name)
  const node = create(NodeProtoSchema, { name: opType, opType, domain: 'com.microsoft', input, output, attribute })
  return toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, {
      irVersion: 8n,
      opsetImport: [
        create(OperatorSetIdProtoSchema, { domain: '', version: 17n }),
        create(OperatorSetIdProtoSchema, { domain: 'com.microsoft', version: 1n }),
      ],
      graph: create(GraphProtoSchema, { name: opType, node: [node], input: inputs, output: outputs }),
    }),
  )
}

function integer(name: string, i: number): AttributeProto {
  return create(AttributeProtoSchema, { name, type: Kind.INT, i: BigInt(i) })
}

function number(name: string, f: number): AttributeProto {
  return create(AttributeProtoSchema, { name, type: Kind.FLOAT, f })
}

function value(name: string, elemType: Type, dims: readonly (string | number)[]): ValueInfoProto {
  const dim = dims.map((size) =>
    create(TensorShapeProto_DimensionSchema, {
      value: typeof size === 'string' ? { case: 'dimParam', value: size } : { case: 'dimValue', value: BigInt(size) },
    }),
  )
  const tensor = create(TypeProto_TensorSchema, { elemType, shape: create(TensorShapeProtoSchema, { dim }) })
  return create(ValueInfoProtoSchema, {
    name,
    type: create(TypeProtoSchema, { value: { case: 'tensorType', value: tensor } }),
  })
}
