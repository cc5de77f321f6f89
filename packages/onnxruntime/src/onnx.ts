import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import {
  type AttributeProto,
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  type GraphProto,
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  type TensorProto,
  TensorProto_DataType,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from 'onnx-buf'
import type { Tensor } from 'onnxruntime-web'
import { invalidFile, reasonOf } from './errors.js'

export type { AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto }
export { TensorProto_DataType as DataType }

/** Domain of onnxruntime's own operators. */
export const MICROSOFT = 'com.microsoft'

/** A size, a name that stands for one, or unknown. */
export type Dim = number | string | undefined

/** @throws INVALID_FILE for bytes that are not an ONNX model */
export function parseModel(bytes: Uint8Array): ModelProto {
  let model: ModelProto
  try {
    model = fromBinary(ModelProtoSchema, bytes)
  } catch (cause) {
    throw invalidFile(`The file is not an ONNX model, or was cut short: ${reasonOf(cause)}.`, 'model', cause)
  }
  if (!model.graph) throw invalidFile('The file holds no ONNX graph.', 'model')
  return model
}

export function serializeModel(model: ModelProto): Uint8Array {
  return toBinary(ModelProtoSchema, model)
}

/** A model of its own with some nodes of `source`: the same operator sets and functions, another graph. */
export function modelLike(source: ModelProto, graph: Partial<Omit<GraphProto, '$typeName' | '$unknown'>>): ModelProto {
  const opsetImport = [...source.opsetImport]
  if (!opsetImport.some(({ domain }) => domain === MICROSOFT)) {
    opsetImport.push(create(OperatorSetIdProtoSchema, { domain: MICROSOFT, version: 1n }))
  }
  return create(ModelProtoSchema, {
    irVersion: source.irVersion,
    opsetImport,
    functions: source.functions,
    graph: create(GraphProtoSchema, { name: source.graph?.name || 'graph', ...graph }),
  })
}

/** bigint: INT, number: FLOAT, array: INTS. */
export type AttributeValue = bigint | number | readonly number[]

export function makeNode(
  name: string,
  opType: string,
  input: readonly string[],
  output: readonly string[],
  attributes: Readonly<Record<string, AttributeValue>> = {},
  domain = '',
): NodeProto {
  const attribute = Object.entries(attributes).map(([key, value]) => makeAttribute(key, value))
  return create(NodeProtoSchema, { name, opType, domain, input: [...input], output: [...output], attribute })
}

function makeAttribute(name: string, value: AttributeValue): AttributeProto {
  const { FLOAT, INT, INTS } = AttributeProto_AttributeType
  if (typeof value === 'bigint') return create(AttributeProtoSchema, { name, type: INT, i: value })
  if (typeof value === 'number') return create(AttributeProtoSchema, { name, type: FLOAT, f: value })
  return create(AttributeProtoSchema, { name, type: INTS, ints: value.map(BigInt) })
}

/** An int64 initializer; a scalar when `values` is a number. */
export function makeInt64(name: string, values: number | readonly number[]): TensorProto {
  const list = typeof values === 'number' ? [values] : values
  const dims = typeof values === 'number' ? [] : [BigInt(values.length)]
  return create(TensorProtoSchema, { name, dataType: TensorProto_DataType.INT64, dims, int64Data: list.map(BigInt) })
}

/** Declares a value. Without `dims` its rank is unknown; an undefined dim is unknown. */
export function makeValueInfo(name: string, elemType: number, dims?: readonly Dim[]): ValueInfoProto {
  const dim = dims?.map((size) =>
    create(TensorShapeProto_DimensionSchema, {
      value:
        size === undefined
          ? { case: undefined }
          : typeof size === 'string'
            ? { case: 'dimParam', value: size }
            : { case: 'dimValue', value: BigInt(size) },
    }),
  )
  const shape = dim && create(TensorShapeProtoSchema, { dim })
  const tensorType = create(TypeProto_TensorSchema, { elemType, ...(shape ? { shape } : {}) })
  return create(ValueInfoProtoSchema, {
    name,
    type: create(TypeProtoSchema, { value: { case: 'tensorType', value: tensorType } }),
  })
}

/** Element type and dims of a declared value; undefined when it is not a tensor, or where nothing is declared. */
export function declaredTensor(
  info: ValueInfoProto | undefined,
): { readonly elemType: number; readonly dims: readonly Dim[] | undefined } | undefined {
  const type = info?.type?.value
  if (type?.case !== 'tensorType') return undefined
  const dims = type.value.shape?.dim.map(({ value }): Dim => {
    if (value.case === 'dimValue') return Number(value.value)
    return value.case === 'dimParam' && value.value !== '' ? value.value : undefined
  })
  return { elemType: type.value.elemType, dims }
}

/** ONNX's codes of the element types, by onnxruntime-web's names. */
const elemTypes: Readonly<Record<Tensor.Type, number>> = {
  float32: TensorProto_DataType.FLOAT,
  uint8: TensorProto_DataType.UINT8,
  int8: TensorProto_DataType.INT8,
  uint16: TensorProto_DataType.UINT16,
  int16: TensorProto_DataType.INT16,
  int32: TensorProto_DataType.INT32,
  int64: TensorProto_DataType.INT64,
  string: TensorProto_DataType.STRING,
  bool: TensorProto_DataType.BOOL,
  float16: TensorProto_DataType.FLOAT16,
  float64: TensorProto_DataType.DOUBLE,
  uint32: TensorProto_DataType.UINT32,
  uint64: TensorProto_DataType.UINT64,
  uint4: TensorProto_DataType.UINT4,
  int4: TensorProto_DataType.INT4,
}

/** ONNX's code for a type that onnxruntime-web names. */
export function elemTypeOf(type: Tensor.Type): number {
  return elemTypes[type]
}

/** onnxruntime-web's name for ONNX's code, if it has one. */
export function tensorTypeOf(elemType: number): Tensor.Type | undefined {
  return (Object.keys(elemTypes) as Tensor.Type[]).find((name) => elemTypes[name] === elemType)
}
