import type { DType } from '@sparse-attention/core'
import type { FoundAttention } from './attention-node.js'
import { cannotCut } from './errors.js'
import { asItLies } from './forms/heads.js'
import type { Graph, GraphNode } from './graph.js'
import { GraphView, intAttribute, isOp } from './graph-view.js'
import { DataType, declaredTensor, makeValueInfo, type NodeProto, type TensorProto } from './onnx.js'
import { replaceShape, shapeInput } from './shape-inputs.js'

/** An attention whose keys and values of past tokens are held in a cache of ours. */
export interface CachedAttention {
  readonly found: FoundAttention
  /** Inputs of the graph that are fed no more. */
  readonly pastKey: string
  readonly pastValue: string
  readonly kvHeads: number
  readonly headDim: number
  readonly dtype: DType
}

export interface WithCache {
  readonly graph: Graph
  /** In the order given. */
  readonly attentions: readonly FoundAttention[]
  readonly cached: readonly CachedAttention[]
}

/**
 * Takes past and present keys and values out of a graph: attentions are given the new ones alone, and the graph's inputs tell
 * only the shapes of the past.
 *
 * @throws UNSUPPORTED when no attention has a past, or one of them in a way that cannot be taken out
 */
export function withCache(graph: Graph, given: readonly FoundAttention[]): WithCache {
  const view = new GraphView(graph)
  const attentions = given.map((found) => withoutPast(view, found) ?? found)
  const cached = attentions.filter((found) => found.cached).map((found) => describe(graph, found))
  const [first] = given
  if (cached.length === 0 && first) {
    throw cannotCut(
      first.node.name,
      'no attention has past keys and values as inputs of the graph, so there is nothing to cache',
    )
  }
  const removed = new Set(cached.flatMap(({ pastKey, pastValue }) => [pastKey, pastValue]))
  const presents = new Set(
    cached.flatMap(({ found: { args } }) => [args.presentKey, args.presentValue].map((value) => view.source(value))),
  )
  const inputs = new Map([...graph.inputs].filter(([name]) => !removed.has(name)))
  const shapeInputs = new Map(graph.shapeInputs)
  for (const name of removed) {
    inputs.set(shapeInput(name), makeValueInfo(shapeInput(name), DataType.INT64, [4]))
    shapeInputs.set(shapeInput(name), name)
  }
  const outputs = graph.outputs.filter((name) => !presents.has(view.source(name)))
  const changed = { ...graph, inputs, shapeInputs, outputs }
  const initializers = new Map(graph.initializers)
  const nodes = graph.nodes.flatMap((node): GraphNode[] => {
    const shaped = isOp(node, 'Shape') ? view.source(node.proto.input[0]!) : ''
    if (!removed.has(shaped)) return [node]
    const replaced = replaceShape(changed, { ...node.proto, input: [shaped] })
    if (!replaced) return [node]
    for (const tensor of replaced.initializers as readonly TensorProto[]) initializers.set(tensor.name, tensor)
    return replaced.nodes.map(graphNode)
  })
  return { graph: { ...changed, nodes, initializers }, attentions, cached }
}

function graphNode(proto: NodeProto): GraphNode {
  return { proto, label: proto.name, inputs: [...new Set(proto.input)], outputs: proto.output }
}

/** An attention that is given new keys and values only; undefined when it has no past. */
function withoutPast(view: GraphView, found: FoundAttention): FoundAttention | undefined {
  const { args, layouts } = found
  if (found.node.opType !== 'Softmax') {
    const isInput = (value: string) => view.graph.inputs.has(value)
    return args.pastKey !== '' && isInput(args.pastKey) && isInput(args.pastValue)
      ? { ...found, cached: true }
      : undefined
  }
  const k = layouts.k === 'BHLD' ? joined(view, args.key) : undefined
  const v = layouts.v === 'BHLD' ? joined(view, args.value) : undefined
  if (!k || !v) return undefined
  const [newKey, newValue] = [asItLies(view, k.added), asItLies(view, v.added)]
  return {
    ...found,
    args: {
      ...args,
      key: newKey.value,
      value: newValue.value,
      pastKey: k.past,
      pastValue: v.past,
      presentKey: args.key,
      presentValue: args.value,
    },
    layouts: { ...layouts, k: newKey.layout, v: newValue.layout },
    cached: true,
  }
}

/** Past keys, an input of the graph, with new ones behind them. */
function joined(view: GraphView, value: string): { readonly past: string; readonly added: string } | undefined {
  const node = view.producedBy(value, 'Concat')
  const [past = '', added = '', ...more] = node?.proto.input ?? []
  const axis = node && intAttribute(node, 'axis')
  const fits = more.length === 0 && added !== '' && (axis === 2 || axis === -2)
  const input = view.source(past)
  return fits && view.graph.inputs.has(input) ? { past: input, added: view.source(added) } : undefined
}

function describe(graph: Graph, found: FoundAttention): CachedAttention {
  const { node, args } = found
  const declared = declaredTensor(graph.inputs.get(args.pastKey))
  const headDim = declared?.dims?.[3] ?? node.headDim
  if (declared?.dims?.length !== 4 || typeof headDim !== 'number') {
    throw cannotCut(node.name, `its past '${args.pastKey}' is not declared as [batch, ${node.kvHeads}, past, head_dim]`)
  }
  if (declared.elemType !== DataType.FLOAT && declared.elemType !== DataType.FLOAT16) {
    throw cannotCut(node.name, `its past '${args.pastKey}' is neither float32 nor float16`)
  }
  const dtype = declared.elemType === DataType.FLOAT ? 'f32' : 'f16'
  return { found, pastKey: args.pastKey, pastValue: args.pastValue, kvHeads: node.kvHeads, headDim, dtype }
}
