import type { Tensor } from 'onnxruntime-web'
import type { Graph } from './graph.js'
import { makeInt64, makeNode, type NodeProto, type TensorProto } from './onnx.js'
import type { Ort } from './ort.js'
import { type SizeOrigin, type Sizes, sizesOf } from './sizes.js'

/** Name of the int64 vector that is fed in place of a value of which only the shape matters. */
export function shapeInput(value: string): string {
  return `${value}/shape`
}

/** Input of which a name of `shapeInput` is the shape. */
export function shapedInput(name: string): string {
  return name.slice(0, -'/shape'.length)
}

/** What a Shape node gives, as numbers and axes of inputs; undefined when it takes computing the value to know. */
export function shapeParts(graph: Graph, sizes: Sizes, node: NodeProto): readonly (number | SizeOrigin)[] | undefined {
  const value = node.input[0] ?? ''
  const known = sizes.shape(value)
  const int = (name: string) => node.attribute.find((each) => each.name === name)?.i
  const fed = graph.inputs.has(value) || [...graph.shapeInputs.values()].includes(value)
  const parts = known?.map((size, axis) =>
    typeof size === 'number' ? size : fed ? { input: value, axis } : sizes.origin(size),
  )
  const told = (part: number | SizeOrigin | undefined) =>
    typeof part === 'number' ? Number.isSafeInteger(part) && part >= 0 : part !== undefined
  if (!parts?.length || !parts.every(told)) return undefined
  const seen = parts.slice(Number(int('start') ?? 0n), Number(int('end') ?? BigInt(parts.length)))
  return seen.length > 0 ? (seen as (number | SizeOrigin)[]) : undefined
}

/** Nodes that do what a Shape node does, from shapes of inputs alone. */
export interface ReplacedShape {
  readonly nodes: readonly NodeProto[]
  readonly initializers: readonly TensorProto[]
  readonly inputs: readonly string[]
}

export function replaceShape(graph: Graph, node: NodeProto): ReplacedShape | undefined {
  const parts = shapeParts(graph, sizesOf(graph), node)
  if (!parts) return undefined
  const [output] = node.output as [string]
  const nodes: NodeProto[] = []
  const initializers: TensorProto[] = []
  const inputs = new Set<string>()
  const names = parts.map((part, index) => {
    const name = `${output}/${index}`
    const number = typeof part === 'number' ? part : part.axis
    if (typeof part === 'number') initializers.push(makeInt64(name, [number]))
    else {
      inputs.add(shapeInput(part.input))
      initializers.push(makeInt64(`${name}/axis`, [number]))
      nodes.push(makeNode(name, 'Gather', [shapeInput(part.input), `${name}/axis`], [name], { axis: 0n }))
    }
    return name
  })
  nodes.push(makeNode(`${output}/concat`, 'Concat', names, [output], { axis: 0n }))
  return { nodes, initializers, inputs: [...inputs] }
}

/** A shape as a tensor to feed. */
export function shapeTensor(ort: Ort, dims: readonly number[]): Tensor {
  return new ort.Tensor('int64', BigInt64Array.from(dims, BigInt), [dims.length])
}
