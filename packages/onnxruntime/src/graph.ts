import { SparseAttentionError } from '@sparse-attention/core'
import { checkTensor } from './check-tensors.js'
import { invalidFile } from './errors.js'
import {
  declaredTensor,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from './onnx.js'

/** A node with the values that it really depends on. */
export interface GraphNode {
  readonly proto: NodeProto
  /** Its name, or its type and first output where it has none. For errors. */
  readonly label: string
  /** Values that it reads, without repeats, those that its subgraphs take from outside included. */
  readonly inputs: readonly string[]
  /** Values that it writes. */
  readonly outputs: readonly string[]
}

/** A checked model: names are unique, every value is defined, nodes are in an order in which they can run. */
export interface Graph {
  readonly model: ModelProto
  readonly nodes: readonly GraphNode[]
  /** Values to feed. */
  readonly inputs: ReadonlyMap<string, ValueInfoProto>
  /** Inputs that are the shape of another, which is fed no more: its name by theirs. See `withCache`. */
  readonly shapeInputs: ReadonlyMap<string, string>
  readonly initializers: ReadonlyMap<string, TensorProto>
  readonly outputs: readonly string[]
  /** What the file says about the type of a value: inputs, outputs and intermediates. */
  readonly declared: ReadonlyMap<string, ValueInfoProto>
  /** Version of the standard operators. */
  readonly opset: number
}

/** The oldest standard operators that the pieces are written in: Slice and Gather with tensor arguments. */
const OLDEST_OPSET = 10

/**
 * Checks a model's structure and its tensors.
 *
 * @throws INVALID_FILE naming the node or value at fault; UNSUPPORTED for what this package does not take
 */
export function readGraph(model: ModelProto): Graph {
  const proto = model.graph!
  const opset = standardOpset(model)
  if (proto.sparseInitializer.length > 0) {
    const name = proto.sparseInitializer[0]!.values?.name ?? ''
    throw unsupportedPart(`The initializer '${name}' is sparse.`, 'Export the model with dense initializers.', name)
  }
  checkTensors(proto)
  for (const { node } of model.functions) for (const inner of node) checkAttributeTensors(inner)

  const initializers = uniqueByName(proto.initializer, 'initializer')
  const allInputs = uniqueByName(proto.input, 'graph input')
  // Before IR 4 every initializer was listed as an input too, as a default that could be overridden.
  const inputs = new Map([...allInputs].filter(([name]) => !initializers.has(name)))
  for (const [name, info] of inputs) {
    if (info.type?.value.case === undefined) throw invalidFile(`The graph input '${name}' has no type.`, name)
    if (!declaredTensor(info)) {
      throw unsupportedPart(`The graph input '${name}' is not a tensor.`, 'Export the model with tensor inputs.', name)
    }
  }

  const nodes = proto.node.map(readNode)
  const producers = findProducers(nodes, new Set([...inputs.keys(), ...initializers.keys()]))
  const known = (value: string) => producers.has(value) || inputs.has(value) || initializers.has(value)
  for (const node of nodes) {
    const missing = node.inputs.find((value) => !known(value))
    if (missing !== undefined) {
      throw invalidFile(`Node ${node.label} reads '${missing}', which nothing in the graph provides.`, node.label)
    }
  }
  const outputs = [...uniqueByName(proto.output, 'graph output').keys()]
  if (outputs.length === 0) throw invalidFile('The graph has no outputs.', 'graph')
  const undefinedOutput = outputs.find((value) => !known(value))
  if (undefinedOutput !== undefined) {
    throw invalidFile(`Nothing in the graph provides its output '${undefinedOutput}'.`, undefinedOutput)
  }
  const declared = new Map([...proto.valueInfo, ...proto.output, ...proto.input].map((info) => [info.name, info]))
  return {
    model,
    nodes: inOrder(nodes, producers),
    inputs,
    shapeInputs: new Map(),
    initializers,
    outputs,
    declared,
    opset,
  }
}

function standardOpset(model: ModelProto): number {
  const versions = model.opsetImport.filter(({ domain }) => domain === '' || domain === 'ai.onnx')
  const version = Number(versions[0]?.version ?? 0)
  if (versions.length === 0 || version < 1) {
    throw invalidFile('The model does not say which version of the standard operators it uses.', 'opset_import')
  }
  if (version < OLDEST_OPSET) {
    throw unsupportedPart(
      `The model uses version ${version} of the standard operators.`,
      `Convert it to version ${OLDEST_OPSET} or newer.`,
      'opset_import',
    )
  }
  return version
}

function unsupportedPart(message: string, fix: string, where: string): SparseAttentionError {
  return new SparseAttentionError('UNSUPPORTED', { message, fix, where })
}

function uniqueByName<T extends { readonly name: string }>(items: readonly T[], what: string): Map<string, T> {
  const byName = new Map<string, T>()
  for (const item of items) {
    if (item.name === '') throw invalidFile(`One ${what} has no name.`, what)
    if (byName.has(item.name)) throw invalidFile(`Two ${what}s are called '${item.name}'.`, item.name)
    byName.set(item.name, item)
  }
  return byName
}

function readNode(proto: NodeProto): GraphNode {
  const first = proto.output.find((value) => value !== '')
  const label = proto.name || `${proto.opType}${first === undefined ? '' : ` of '${first}'`}`
  if (proto.opType === '') throw invalidFile(`Node ${label} has no operator type.`, label)
  checkAttributeTensors(proto)
  const inputs = new Set([...proto.input.filter((value) => value !== ''), ...capturedBy(proto)])
  return { proto, label, inputs: [...inputs], outputs: proto.output.filter((value) => value !== '') }
}

/** Which node writes each value. */
function findProducers(nodes: readonly GraphNode[], taken: ReadonlySet<string>): Map<string, number> {
  const producers = new Map<string, number>()
  for (const [index, node] of nodes.entries()) {
    for (const value of node.outputs) {
      if (taken.has(value)) {
        throw invalidFile(`Node ${node.label} writes '${value}', the name of an input or initializer.`, node.label)
      }
      const other = producers.get(value)
      if (other !== undefined) {
        throw invalidFile(`Nodes ${nodes[other]!.label} and ${node.label} both write '${value}'.`, node.label)
      }
      producers.set(value, index)
    }
  }
  return producers
}

/** The file's order where it is one in which the nodes can run, else one in which they can. */
function inOrder(nodes: readonly GraphNode[], producers: ReadonlyMap<string, number>): GraphNode[] {
  const waitingFor = nodes.map(({ inputs }) => new Set(inputs.flatMap((value) => producers.get(value) ?? [])))
  if (waitingFor.every((before, index) => [...before].every((producer) => producer < index))) return [...nodes]
  const readers = nodes.map((): number[] => [])
  for (const [index, before] of waitingFor.entries()) for (const producer of before) readers[producer]!.push(index)
  const ready = nodes.flatMap((_, index) => (waitingFor[index]!.size === 0 ? [index] : []))
  for (const index of ready) {
    for (const reader of readers[index]!) {
      waitingFor[reader]!.delete(index)
      if (waitingFor[reader]!.size === 0) ready.push(reader)
    }
  }
  if (ready.length < nodes.length) {
    const stuck = nodes[findCycle(waitingFor)]!
    throw invalidFile(`Node ${stuck.label} is part of a cycle: it needs its own output.`, stuck.label)
  }
  return ready.map((index) => nodes[index]!)
}

/** A node on a cycle: walking back from any that still waits must come around. */
function findCycle(waitingFor: readonly ReadonlySet<number>[]): number {
  const seen = new Set<number>()
  let index = waitingFor.findIndex((before) => before.size > 0)
  while (!seen.has(index)) {
    seen.add(index)
    index = [...waitingFor[index]!].find((before) => waitingFor[before]!.size > 0)!
  }
  return index
}

function subgraphs(node: NodeProto): GraphProto[] {
  return node.attribute.flatMap(({ g, graphs }) => (g ? [g, ...graphs] : graphs))
}

/** Nodes inside a node's subgraphs, at any depth. (Parsing has bounded the depth.) */
export function innerNodes(node: NodeProto): NodeProto[] {
  return subgraphs(node).flatMap((graph) => graph.node.flatMap((inner) => [inner, ...innerNodes(inner)]))
}

/** Values that a node's subgraphs take from the graph around it. */
function capturedBy(node: NodeProto): Set<string> {
  const captured = new Set<string>()
  for (const graph of subgraphs(node)) {
    const own = new Set([
      ...graph.input.map(({ name }) => name),
      ...graph.initializer.map(({ name }) => name),
      ...graph.node.flatMap(({ output }) => output),
    ])
    const used = [
      ...graph.node.flatMap((inner) => [...inner.input, ...capturedBy(inner)]),
      ...graph.output.map(({ name }) => name),
    ]
    for (const value of used) if (value !== '' && !own.has(value)) captured.add(value)
  }
  return captured
}

function checkTensors(graph: GraphProto): void {
  for (const tensor of graph.initializer) checkTensor(tensor, `initializer '${tensor.name}'`)
}

function checkAttributeTensors(node: NodeProto): void {
  const label = node.name || node.opType
  for (const { name, t, tensors } of node.attribute) {
    for (const tensor of t ? [t, ...tensors] : tensors) checkTensor(tensor, `attribute '${name}' of node ${label}`)
  }
  for (const graph of subgraphs(node)) {
    checkTensors(graph)
    for (const inner of graph.node) checkAttributeTensors(inner)
  }
}
