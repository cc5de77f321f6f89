import type { FoundAttention, Layouts } from './attention-node.js'
import { cannotCut } from './errors.js'
import { type Graph, innerNodes } from './graph.js'
import { makeNode, type NodeProto, type TensorProto } from './onnx.js'
import { type Rewritten, rewriteAttention } from './rewrite.js'
import { replaceShape } from './shape-inputs.js'

/** A part of the graph that onnxruntime-web runs as one session. */
export interface Piece {
  readonly nodes: readonly NodeProto[]
  readonly initializers: readonly TensorProto[]
  /** Values fed to it: graph inputs, outputs of earlier pieces, outputs of attentions. */
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
}

/** An attention that is ours, with the values that it reads and writes. */
export interface CutAttention {
  readonly found: FoundAttention
  readonly q: string
  readonly k: string
  readonly v: string
  readonly output: string
  readonly layouts: Layouts
}

/** One step of a run: a piece, then the attentions between it and the next. */
export interface Level {
  readonly piece: Piece | undefined
  readonly attentions: readonly CutAttention[]
}

export interface Cut {
  readonly levels: readonly Level[]
  /**
   * Computes from graph inputs what the host checks of the replaced attentions: their masks, `seqlens_k`,
   * `total_sequence_length` and `position_ids`. Of inputs whose shape is all that matters it takes only that.
   */
  readonly host: Piece | undefined
  /** The last level whose piece or attentions are fed a value. What is missing here is fed to none. */
  readonly lastUse: ReadonlyMap<string, number>
}

interface Step {
  readonly node: NodeProto
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  /** Set for a node that is replaced; its inputs are q, k and v. */
  readonly attention?: CutAttention
}

type Cheap = 'constant' | 'shape'

/** Outputs differ from run to run, so they are not constants even when their inputs are. */
const randomOps: ReadonlySet<string> = new Set([
  'RandomNormal',
  'RandomNormalLike',
  'RandomUniform',
  'RandomUniformLike',
  'Multinomial',
  'Bernoulli',
])

/** Arithmetic on a few integers, as exporters write it around Shape. */
const shapeOps: ReadonlySet<string> = new Set([
  'Gather',
  'Slice',
  'Squeeze',
  'Unsqueeze',
  'Concat',
  'Cast',
  'Identity',
  'Add',
  'Sub',
  'Mul',
  'Div',
  'Min',
  'Max',
])

/**
 * Cuts a graph at the attentions given, as rarely as possible: attentions that do not depend on each other run between
 * the same two pieces, and values that are cheap to compute again are, rather than handed from piece to piece.
 *
 * @throws UNSUPPORTED naming a node that cannot be cut
 */
export function cutGraph(graph: Graph, attentions: readonly FoundAttention[]): Cut {
  return new Cutter(graph, attentions).cut()
}

class Cutter {
  readonly #graph: Graph
  readonly #steps: readonly Step[]
  readonly #initializers: Map<string, TensorProto>
  readonly #producer = new Map<string, Step>()
  /** Level of the piece that runs a step, or of the piece before an attention. */
  readonly #level = new Map<Step, number>()
  readonly #cheap = new Map<Step, Cheap>()
  readonly #drafts: Draft[] = []
  readonly #lastUse = new Map<string, number>()

  constructor(graph: Graph, attentions: readonly FoundAttention[]) {
    this.#graph = graph
    this.#initializers = new Map(graph.initializers)
    this.#steps = this.#rewrite(attentions)
    for (const step of this.#steps) for (const value of step.outputs) this.#producer.set(value, step)
    this.#assignLevels()
  }

  cut(): Cut {
    const attentions = this.#steps.filter((step) => step.attention)
    const count = this.#steps.reduce((most, step) => Math.max(most, this.#availableAt(step)), 0) + 1
    for (let level = 0; level < count; level++) this.#drafts.push(new Draft())
    for (const value of this.#graph.outputs) this.#provide(value, 0)
    for (const step of attentions) {
      const level = this.#level.get(step)!
      for (const value of step.inputs) {
        this.#provide(value, level)
        this.#use(value, level)
      }
    }
    const levels = this.#drafts.map((draft, level): Level => {
      const here = attentions.filter((step) => this.#level.get(step) === level)
      return { piece: draft.finish(this.#steps), attentions: here.map((step) => step.attention!) }
    })
    const empty = ({ piece, attentions }: Level) => !piece && attentions.length === 0
    while (levels.length > 0 && empty(levels[levels.length - 1]!)) levels.pop()
    return { levels, host: this.#cutHost(attentions.map((step) => step.attention!)), lastUse: this.#lastUse }
  }

  /** The graph's nodes with what is ours written out. */
  #rewrite(attentions: readonly FoundAttention[]): Step[] {
    const byNode = new Map(attentions.map((found) => [found.graphNode, found]))
    const absorbed = new Set(attentions.flatMap((found) => found.absorbed))
    const taken = new Set(this.#initializers.keys())
    for (const value of this.#graph.inputs.keys()) taken.add(value)
    for (const { outputs } of this.#graph.nodes) for (const value of outputs) taken.add(value)
    return this.#graph.nodes.flatMap((graphNode): Step[] => {
      const found = byNode.get(graphNode)
      if (absorbed.has(graphNode)) return []
      if (!found) return [{ node: graphNode.proto, inputs: graphNode.inputs, outputs: graphNode.outputs }]
      const rewritten: Rewritten = rewriteAttention(this.#graph, found, taken)
      for (const tensor of rewritten.initializers) this.#initializers.set(tensor.name, tensor)
      const { q, k, v, layouts } = rewritten
      const { output } = found.args
      const attention = { found, q, k, v, output, layouts }
      return [
        ...rewritten.nodes.map((node) => ({ node, inputs: node.input, outputs: node.output })),
        { node: graphNode.proto, inputs: [q, k, v], outputs: [output], attention },
      ]
    })
  }

  #assignLevels(): void {
    /** Steps before which there are only inputs and initializers. */
    const early = new Set<Step>()
    const readers = new Map<Step, Step[]>()
    for (const step of this.#steps) {
      const before = step.inputs.flatMap((value) => this.#producer.get(value) ?? [])
      const level = before.reduce((most, producer) => Math.max(most, this.#availableAt(producer)), 0)
      this.#level.set(step, level)
      const kind = this.#cheapKind(step)
      if (kind) this.#cheap.set(step, kind)
      if (!step.attention && before.every((producer) => early.has(producer))) early.add(step)
      for (const producer of before) {
        const known = readers.get(producer)
        if (known) known.push(step)
        else readers.set(producer, [step])
      }
    }
    // What is needed only late is computed late, so that the inputs cross, which are there anyway.
    for (const step of this.#steps.toReversed()) {
      const later = readers.get(step)
      if (!later || !early.has(step)) continue
      this.#level.set(
        step,
        later.reduce((least, reader) => Math.min(least, this.#level.get(reader)!), Number.POSITIVE_INFINITY),
      )
    }
  }

  /** The first level whose piece can read what a step writes. */
  #availableAt(step: Step): number {
    return this.#level.get(step)! + (step.attention ? 1 : 0)
  }

  /**
   * A constant, such as a dequantized weight, is what depends on initializers alone; 'shape' is arithmetic on the shapes
   * of graph inputs. Both are repeated wherever they are needed.
   */
  #cheapKind(step: Step): Cheap | undefined {
    const { node, inputs, attention } = step
    if (attention || randomOps.has(node.opType) || innerNodes(node).length > 0) return undefined
    const kinds = inputs.map((value) => this.#kindOf(value))
    if (kinds.every((kind) => kind === 'constant')) return 'constant'
    const takesInputs = node.opType === 'Shape' || node.opType === 'Size'
    if (!takesInputs && !shapeOps.has(node.opType)) return undefined
    const fits = (kind: Cheap | 'input' | undefined) => kind && (kind !== 'input' || takesInputs)
    return kinds.every(fits) ? 'shape' : undefined
  }

  #kindOf(value: string): Cheap | 'input' | undefined {
    if (this.#graph.shapeInputs.has(value)) return 'shape'
    if (this.#initializers.has(value)) return 'constant'
    const producer = this.#producer.get(value)
    return producer ? this.#cheap.get(producer) : 'input'
  }

  /** Makes the piece that can provide a value do so: its own, or for a cheap one that of `level`. */
  #provide(value: string, level: number): void {
    const producer = this.#producer.get(value)
    if (!producer) {
      // A graph input is there already; an initializer becomes an output of a piece.
      if (this.#initializers.has(value) && this.#drafts[level]!.output(value)) this.#include(value, level)
      return
    }
    if (producer.attention) return
    const at = this.#cheap.has(producer) ? level : this.#level.get(producer)!
    if (this.#drafts[at]!.output(value)) this.#include(value, at)
  }

  /** Puts what a value needs into a piece, and makes earlier pieces provide the rest. */
  #include(value: string, level: number): void {
    const draft = this.#drafts[level]!
    const pending = [value]
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const producer = this.#producer.get(next)
      const tensor = this.#initializers.get(next)
      if (tensor) draft.initializers.set(next, tensor)
      else if (
        producer &&
        (this.#cheap.has(producer) || (!producer.attention && this.#level.get(producer) === level))
      ) {
        if (!draft.steps.has(producer)) pending.push(...producer.inputs)
        draft.steps.add(producer)
      } else if (!draft.inputs.has(next)) {
        draft.inputs.add(next)
        this.#use(next, level)
        this.#provide(next, level)
      }
    }
  }

  #use(value: string, level: number): void {
    this.#lastUse.set(value, Math.max(level, this.#lastUse.get(value) ?? 0))
  }

  #cutHost(attentions: readonly CutAttention[]): Piece | undefined {
    const draft = new Draft()
    const own: NodeProto[] = []
    const substitutes: NodeProto[] = []
    for (const { found } of attentions) {
      for (const value of hostValues(found)) {
        if (!draft.output(hostOutput(value))) continue
        own.push(makeNode(hostOutput(value), 'Identity', [value], [hostOutput(value)]))
        const pending = [value]
        for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
          const producer = this.#producer.get(next)
          const tensor = this.#initializers.get(next)
          if (producer?.attention) {
            throw cannotCut(
              found.node.name,
              `its value '${value}' depends on the attention of node ${producer.attention.found.node.name}`,
            )
          }
          if (tensor) draft.initializers.set(next, tensor)
          else if (!producer) draft.inputs.add(next)
          else if (!draft.steps.has(producer)) {
            draft.steps.add(producer)
            const shape = producer.node.opType === 'Shape' && replaceShape(this.#graph, producer.node)
            if (shape) {
              substitutes.push(...shape.nodes)
              for (const each of shape.initializers) draft.initializers.set(each.name, each)
              for (const input of shape.inputs) draft.inputs.add(input)
              draft.replaced.add(producer)
            } else pending.push(...producer.inputs)
          }
        }
      }
    }
    const piece = draft.finish(this.#steps)
    return piece && { ...piece, nodes: [...substitutes, ...piece.nodes, ...own] }
  }
}

/** What the host has to know of an attention before it runs. */
function hostValues({ args, mask }: FoundAttention): string[] {
  const parts = mask.flatMap((part) => (part.kind === 'compare' ? [part.left, part.right] : [part.value]))
  return [args.seqlensK, args.totalSequenceLength, args.positionIds, ...parts].filter((value) => value !== '')
}

/** Name under which the host's session returns a value, which may itself be one of its inputs. */
export function hostOutput(value: string): string {
  return `${value}/host`
}

/** A piece in the making. */
class Draft {
  readonly steps = new Set<Step>()
  /** Steps whose node is written anew. */
  readonly replaced = new Set<Step>()
  readonly initializers = new Map<string, TensorProto>()
  readonly inputs = new Set<string>()
  readonly #outputs = new Set<string>()

  /** True when the value was not an output yet. */
  output(value: string): boolean {
    if (this.#outputs.has(value)) return false
    this.#outputs.add(value)
    return true
  }

  finish(order: readonly Step[]): Piece | undefined {
    if (this.#outputs.size === 0) return undefined
    return {
      nodes: order.filter((step) => this.steps.has(step) && !this.replaced.has(step)).map(({ node }) => node),
      initializers: [...this.initializers.values()],
      inputs: [...this.inputs],
      outputs: [...this.#outputs],
    }
  }
}
