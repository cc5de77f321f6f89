import type { FoundAttention } from '../attention-node.js'
import { tensorNumbers } from '../constants.js'
import { type Cut, cutGraph, type Piece } from '../cut.js'
import { roleOf } from '../generate/language-feeds.js'
import type { Graph } from '../graph.js'
import {
  DataType,
  declaredTensor,
  MICROSOFT,
  makeInt64,
  makeValueInfo,
  type NodeProto,
  type TensorProto,
} from '../onnx.js'

/** Input of the pieces that tells how many tokens came before, int64 [1]. */
export const pastLengthInput = 'past_length/captured'

/** That, or why there is none. */
export type FixedCut = FixedGraph | { readonly reason: string }

/** A graph cut for one new token after a past of any length, every shape in it a number. */
export interface FixedGraph {
  readonly cut: Cut
  readonly graph: Graph
}

/**
 * What changes from token to token comes in as `input_ids` [1, 1], `position_ids` [1, 1] and the length of the past [1], on the GPU;
 * everything else is fixed. The attention mask is as long as there may be tokens, so that what is computed from its length,
 * such as rotary tables, is long enough for all of them and constant.
 *
 * That is the same model only if nothing but such tables depends on that length: it is checked here that they are all that does.
 *
 * @param graph of `withCache`
 */
export function fixedCut(graph: Graph, attentions: readonly FoundAttention[], capacity: number): FixedCut {
  const inputs = new Map(graph.inputs)
  const kept = new Map(graph.initializers)
  const masks = new Set<string>()
  for (const [name, info] of graph.inputs) {
    if (graph.shapeInputs.has(name)) continue
    const type = declaredTensor(info)?.elemType
    const role = type === DataType.INT64 ? roleOf(name) : undefined
    if (role === undefined) return { reason: `it has the input '${name}'` }
    if (role === 'ids' || role === 'positions') {
      inputs.set(name, makeValueInfo(name, DataType.INT64, [1, 1]))
      continue
    }
    if (role === 'mask') masks.add(name)
    else {
      inputs.delete(name)
      kept.set(name, makeInt64(name, 1))
    }
  }
  const { nodes, lengths, initializers } = foldShapes({ ...graph, initializers: kept }, masks, [1, capacity])
  const fixed = { ...graph, nodes, inputs, initializers }
  const cut = cutGraph(fixed, attentions)
  const pieces = cut.levels.flatMap(({ piece }) => piece ?? [])
  const dependent = beyondTables(pieces, lengths, graph)
  if (dependent !== undefined) return { reason: `'${dependent}' depends on how many tokens there are` }
  inputs.set(pastLengthInput, makeValueInfo(pastLengthInput, DataType.INT64, [1]))
  const levels = cut.levels.map((level) => ({
    ...level,
    piece: level.piece && withPastLength(level.piece, graph, fixed.initializers),
  }))
  const shaped = levels
    .flatMap(({ piece }) => piece?.inputs ?? [])
    .find((name) => graph.shapeInputs.has(name) || masks.has(name))
  if (shaped !== undefined) return { reason: `it computes with '${shaped}'` }
  return { cut: { ...cut, levels }, graph: { ...fixed, inputs } }
}

/**
 * Shapes of masks, elements of them, and ranges up to those, as constants. Of ranges because exporters write their ends as
 * vectors of one number too, which onnxruntime takes while it does not know them, and refuses when it does.
 */
function foldShapes(
  graph: Graph,
  masks: ReadonlySet<string>,
  shape: readonly number[],
): Pick<Graph, 'nodes' | 'initializers'> & { readonly lengths: ReadonlySet<string> } {
  const initializers = new Map(graph.initializers)
  const lengths = new Set<string>()
  const single = (name: string | undefined) => {
    const tensor = initializers.get(name ?? '')
    const numbers = tensor?.dataType === DataType.INT64 ? tensorNumbers(tensor) : undefined
    return numbers?.length === 1 ? { value: numbers[0]!, scalar: tensor!.dims.length === 0 } : undefined
  }
  const fold = ({ opType, input, attribute }: NodeProto): number | readonly number[] | undefined => {
    const [first = '', second] = input
    if (opType === 'Shape' && masks.has(first) && attribute.length === 0) return shape
    if (!input.some((value) => lengths.has(value))) return undefined
    if (opType === 'Gather' && initializers.get(first)?.dims.length === 1) {
      const index = single(second)
      const element = index && shape.at(index.value)
      return element === undefined || index!.scalar ? element : [element]
    }
    if (opType !== 'Range') return undefined
    const [start, limit, delta] = input.map((value) => single(value)?.value)
    if (start === undefined || limit === undefined || delta === undefined || delta === 0) return undefined
    return Array.from({ length: Math.max(0, Math.ceil((limit - start) / delta)) }, (_, i) => start + i * delta)
  }
  const nodes = graph.nodes.filter(({ proto }) => {
    const value = fold(proto)
    if (value === undefined) return true
    const name = proto.output[0]!
    initializers.set(name, makeInt64(name, value))
    lengths.add(name)
    return false
  })
  return { nodes, initializers, lengths }
}

/** A value that depends on lengths and is more than a table of rotary embeddings; undefined when there is none. */
function beyondTables(pieces: readonly Piece[], lengths: ReadonlySet<string>, graph: Graph): string | undefined {
  const tainted = new Set(lengths)
  for (const { nodes } of pieces) {
    for (const node of nodes) {
      const read = [...node.input.entries()].filter(([, value]) => tainted.has(value))
      if (read.length === 0) continue
      const onlyTables = node.opType === 'RotaryEmbedding' && node.domain === MICROSOFT && read.every(([at]) => at >= 2)
      if (onlyTables) continue
      // With anything that is fed, it is no table any more.
      const fed = node.input.find((value) => graph.inputs.has(value))
      if (fed !== undefined) return node.output[0]
      for (const value of node.output) tainted.add(value)
    }
  }
  for (const { outputs } of pieces) {
    const given = outputs.find((value) => tainted.has(value))
    if (given !== undefined) return given
  }
  return undefined
}

/** The piece with the input `pastLengthInput` where it takes that from the shape of a past. */
function withPastLength(piece: Piece, graph: Graph, initializers: ReadonlyMap<string, TensorProto>): Piece {
  const isPastLength = ({ input, opType }: NodeProto) => {
    const at = initializers.get(input[1] ?? '') ?? piece.initializers.find(({ name }) => name === input[1])
    return (
      opType === 'Gather' && graph.shapeInputs.has(input[0] ?? '') && at?.dims.length === 1 && at.int64Data[0] === 2n
    )
  }
  const gathers = piece.nodes.filter(isPastLength)
  if (gathers.length === 0) return piece
  const names = new Set(gathers.map(({ output }) => output[0]!))
  const nodes = piece.nodes
    .filter((node) => !gathers.includes(node))
    .map((node) =>
      node.input.some((value) => names.has(value))
        ? { ...node, input: node.input.map((value) => (names.has(value) ? pastLengthInput : value)) }
        : node,
    )
  const read = new Set(nodes.flatMap(({ input }) => input))
  const inputs = [...piece.inputs.filter((name) => !graph.shapeInputs.has(name) || read.has(name)), pastLengthInput]
  return { ...piece, nodes, inputs }
}
