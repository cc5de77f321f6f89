import type { Graph, GraphNode } from './graph.js'
import { DataType, declaredTensor } from './onnx.js'

/** Operators whose first output has one element type, whatever they read. */
const resultTypes: Readonly<Record<string, number>> = {
  Shape: DataType.INT64,
  Size: DataType.INT64,
  NonZero: DataType.INT64,
  ArgMax: DataType.INT64,
  ArgMin: DataType.INT64,
  Equal: DataType.BOOL,
  Greater: DataType.BOOL,
  GreaterOrEqual: DataType.BOOL,
  Less: DataType.BOOL,
  LessOrEqual: DataType.BOOL,
  And: DataType.BOOL,
  Or: DataType.BOOL,
  Xor: DataType.BOOL,
  Not: DataType.BOOL,
  IsNaN: DataType.BOOL,
  IsInf: DataType.BOOL,
}

/** Operators whose output has the type of an input other than the first. */
const typedByInput: Readonly<Record<string, number>> = {
  DequantizeLinear: 1,
  Where: 1,
  OneHot: 2,
  GatherBlockQuantized: 2,
}

/**
 * Values that hold floats, as far as the file and the commonest operators tell. It decides only where a value is kept
 * (floats on the GPU, integers where the host can read them), so a wrong guess costs time and not correctness.
 */
export function floatValues(graph: Graph): ReadonlySet<string> {
  const isFloat = (type: number) => type === DataType.FLOAT || type === DataType.FLOAT16
  return new Set([...elementTypes(graph)].filter(([, type]) => isFloat(type)).map(([name]) => name))
}

/** ONNX's code of each value's element type: declared, or a guess. */
export function elementTypes(graph: Graph): ReadonlyMap<string, number> {
  const types = new Map<string, number>()
  for (const [name, info] of graph.declared) {
    const declared = declaredTensor(info)
    if (declared) types.set(name, declared.elemType)
  }
  for (const [name, { dataType }] of graph.initializers) types.set(name, dataType)
  for (const node of graph.nodes) {
    for (const [index, value] of node.outputs.entries()) {
      if (!types.has(value)) types.set(value, guess(node, index, types))
    }
  }
  return types
}

function guess({ proto }: GraphNode, output: number, types: ReadonlyMap<string, number>): number {
  const { opType, input, attribute } = proto
  const fixed = resultTypes[opType]
  if (fixed !== undefined) return fixed
  if (opType === 'Cast') return Number(attribute.find(({ name }) => name === 'to')?.i ?? 0)
  if (opType === 'TopK' && output === 1) return DataType.INT64
  const constant = attribute.find(({ name }) => name === 'value')?.t
  if (constant) return constant.dataType
  return types.get(input[typedByInput[opType] ?? 0] ?? '') ?? DataType.FLOAT
}
