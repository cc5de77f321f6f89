import { tensorNumbers } from './constants.js'
import type { Graph, GraphNode } from './graph.js'
import type { AttributeProto, TensorProto } from './onnx.js'

/** More elements than a scale, a shape or a list of axes has. */
const MAX_CONSTANT = 64

/** A graph as pattern matchers look at it: who writes and reads a value, and which values are constant. */
export class GraphView {
  readonly #producers = new Map<string, GraphNode>()
  readonly #sources = new Map<string, string>()
  readonly #readers = new Map<string, GraphNode[]>()
  readonly #outputs: ReadonlySet<string>
  readonly #constants = new Map<string, readonly number[] | undefined>()

  constructor(readonly graph: Graph) {
    this.#outputs = new Set(graph.outputs)
    for (const node of graph.nodes) {
      for (const value of node.outputs) this.#producers.set(value, node)
      // Nodes are in the order in which they run, so what is renamed is known already.
      if (onlyRenames(node)) this.#sources.set(node.outputs[0] ?? '', this.source(node.proto.input[0] ?? ''))
      for (const value of node.inputs) {
        const known = this.#readers.get(value)
        if (known) known.push(node)
        else this.#readers.set(value, [node])
      }
    }
  }

  /** The node that writes a value, past nodes that only rename it; undefined for inputs and initializers. */
  producer(value: string): GraphNode | undefined {
    return this.#producers.get(this.source(value))
  }

  /** The producer, if it is this standard operator. */
  producedBy(value: string, opType: string): GraphNode | undefined {
    const node = this.producer(value)
    return node && isOp(node, opType) ? node : undefined
  }

  readers(value: string): readonly GraphNode[] {
    return this.#readers.get(value) ?? []
  }

  isOutput(value: string): boolean {
    return this.#outputs.has(value)
  }

  /** A value before the Identity nodes that rename it. */
  source(value: string): string {
    return this.#sources.get(value) ?? value
  }

  /** The stored tensor behind a value. */
  stored(value: string): TensorProto | undefined {
    const source = this.source(value)
    const initializer = this.graph.initializers.get(source)
    if (initializer) return initializer
    const node = this.#producers.get(source)
    return node && isOp(node, 'Constant') ? attribute(node, 'value')?.t : undefined
  }

  /** The numbers of a small constant. */
  constant(value: string): readonly number[] | undefined {
    const source = this.source(value)
    if (!this.#constants.has(source)) this.#constants.set(source, this.#readConstant(source))
    return this.#constants.get(source)
  }

  /** The number that a constant of one element is, whatever its rank. */
  scalar(value: string): number | undefined {
    const numbers = this.constant(value)
    return numbers?.length === 1 ? numbers[0] : undefined
  }

  #readConstant(source: string): readonly number[] | undefined {
    const tensor = this.stored(source)
    if (tensor) {
      const count = tensor.dims.reduce((product, size) => product * size, 1n)
      const numbers = count <= MAX_CONSTANT ? tensorNumbers(tensor) : undefined
      return numbers && Array.from(numbers)
    }
    const node = this.#producers.get(source)
    if (!node || !isOp(node, 'Constant')) return undefined
    const list = node.proto.attribute[0]
    if (list?.name === 'value_float') return [list.f]
    if (list?.name === 'value_int') return [Number(list.i)]
    if (list?.name === 'value_floats' && list.floats.length <= MAX_CONSTANT) return list.floats
    if (list?.name === 'value_ints' && list.ints.length <= MAX_CONSTANT) return list.ints.map(Number)
    return undefined
  }
}

/** Exporters write a Concat of one value, too. */
function onlyRenames(node: GraphNode): boolean {
  return isOp(node, 'Identity') || (isOp(node, 'Concat') && node.proto.input.length === 1)
}

/** A node of a standard operator. */
export function isOp({ proto }: GraphNode, opType: string): boolean {
  return proto.opType === opType && (proto.domain === '' || proto.domain === 'ai.onnx')
}

export function attribute(node: GraphNode, name: string): AttributeProto | undefined {
  return node.proto.attribute.find((each) => each.name === name)
}

/** An INT attribute. */
export function intAttribute(node: GraphNode, name: string): number | undefined {
  const found = attribute(node, name)
  return found && Number(found.i)
}

/** An INTS attribute. */
export function intsAttribute(node: GraphNode, name: string): readonly number[] | undefined {
  return attribute(node, name)?.ints.map(Number)
}

/** What an operator takes as an input since some version, and took as an attribute before: axes, split. */
export function intsArgument(
  view: GraphView,
  node: GraphNode,
  index: number,
  name: string,
): readonly number[] | undefined {
  const input = node.proto.input[index] ?? ''
  return input === '' ? intsAttribute(node, name) : view.constant(input)
}
