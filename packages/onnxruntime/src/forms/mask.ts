import type { Comparison, MaskPart } from '../attention-node.js'
import { tensorNumbers } from '../constants.js'
import { type GraphNode, innerNodes } from '../graph.js'
import { type GraphView, intsArgument, isOp } from '../graph-view.js'
import { DataType, type TensorProto } from '../onnx.js'
import { shapeParts } from '../shape-inputs.js'
import type { Sizes } from '../sizes.js'

/** Scores this low leave nothing of a pair: e^−10000 is 0 in every float, and older exporters write just that. */
export const HIDDEN = -1e4

/** A mask taken apart, or why it cannot be. */
export type ReadMask =
  | {
      readonly parts: readonly MaskPart[]
      /** It compares positions, so it is probably causal. What it really is, each run finds out. */
      readonly causal: boolean
    }
  | { readonly obstacle: string }

const comparisons: ReadonlySet<string> = new Set(['Equal', 'Less', 'LessOrEqual', 'Greater', 'GreaterOrEqual'])

/** Operators that a mask made of positions and padding has no use for. */
const activations: ReadonlySet<string> = new Set(
  'MatMul Gemm Conv Einsum Softmax LayerNormalization Attention MultiHeadAttention GroupQueryAttention'.split(' '),
)

/**
 * Takes masks apart into conditions that a run can check on the host without ever making the whole mask, which has
 * query_length × key_length elements. Where a mask has another form, the whole of it is one condition.
 */
export class MaskReader {
  readonly #cones = new Map<string, { readonly obstacle: string | undefined; readonly ordered: boolean }>()

  constructor(
    private readonly view: GraphView,
    private readonly sizes: Sizes,
    private readonly elementTypes: ReadonlyMap<string, number>,
  ) {}

  /** A mask that the standard Attention takes: booleans, or numbers to add. */
  readArgument(value: string): ReadMask {
    return this.elementTypes.get(value) === DataType.BOOL ? this.readCondition(value, false) : this.readAdditive(value)
  }

  /** Booleans, true where a pair is visible; `negated`: where it is hidden. */
  readCondition(value: string, negated: boolean): ReadMask {
    return this.#checked(this.#conditions(value, negated))
  }

  /** Numbers that are added to scores. */
  readAdditive(value: string): ReadMask {
    return this.#checked(this.#additive(value))
  }

  #checked(parts: readonly MaskPart[]): ReadMask {
    let causal = false
    for (const part of parts) {
      const values = part.kind === 'compare' ? [part.left, part.right] : [part.value]
      for (const value of values) {
        const { obstacle, ordered } = this.#cone(value)
        if (obstacle !== undefined) return { obstacle: `its mask '${value}' ${obstacle}` }
        // A stored triangle is compared with 1; positions are compared with each other.
        if (ordered && (part.kind !== 'compare' || part.op === 'Equal')) causal = true
      }
      if (part.kind === 'compare' && this.#ordersPositions(part.op, part.left, part.right)) causal = true
    }
    return { parts, causal }
  }

  #conditions(value: string, negated: boolean): MaskPart[] {
    const parts: MaskPart[] = []
    const seen = new Set<string>()
    const pending = [{ value, negated }]
    for (let next = pending.pop(); next; next = pending.pop()) {
      const key = `${next.negated} ${this.view.source(next.value)}`
      if (seen.has(key)) continue
      seen.add(key)
      const node = this.view.producer(next.value)
      const [first = '', second = ''] = node?.proto.input ?? []
      // Hidden where either says so: "and" of what is visible, "or" of what is hidden.
      if (node && isOp(node, next.negated ? 'Or' : 'And')) {
        pending.push({ value: second, negated: next.negated }, { value: first, negated: next.negated })
      } else if (node && isOp(node, 'Not')) pending.push({ value: first, negated: !next.negated })
      else if (node && this.#keepsConditions(node)) pending.push({ value: first, negated: next.negated })
      else if (node && !next.negated && node.proto.domain === '' && comparisons.has(node.proto.opType)) {
        parts.push({ kind: 'compare', op: node.proto.opType as Comparison, left: first, right: second })
      } else parts.push({ kind: 'boolean', ...next })
    }
    return parts
  }

  #additive(given: string): MaskPart[] {
    let value = given
    for (;;) {
      const node = this.view.producer(value)
      if (!node) return [{ kind: 'additive', value }]
      const [first = '', second = '', third = ''] = node.proto.input
      if (isOp(node, 'Where')) {
        const [yes, no] = [this.view.scalar(second), this.view.scalar(third)]
        if (yes === 0 && no !== undefined && no <= HIDDEN) return this.#conditions(first, false)
        if (no === 0 && yes !== undefined && yes <= HIDDEN) return this.#conditions(first, true)
      }
      if (!isOp(node, 'Expand') && !this.#addsLeadingAxes(node)) return [{ kind: 'additive', value }]
      value = first
    }
  }

  /** Nodes after which the same pairs are visible: the last two axes stay where they are. */
  #keepsConditions(node: GraphNode): boolean {
    if (isOp(node, 'Expand') || this.#addsLeadingAxes(node)) return true
    return isOp(node, 'Cast') && this.elementTypes.get(node.proto.input[0]!) === DataType.BOOL
  }

  #addsLeadingAxes(node: GraphNode): boolean {
    const axes = isOp(node, 'Unsqueeze') ? intsArgument(this.view, node, 1, 'axes') : undefined
    // A matrix at least: to a vector, a leading axis would be one of the last two.
    return axes?.every((axis, i) => axis === i) === true && this.#isMatrix(node.proto.input[0]!)
  }

  #isMatrix(value: string): boolean {
    const node = this.view.producer(value)
    return (this.view.stored(value)?.dims.length ?? 0) >= 2 || (node !== undefined && isOp(node, 'Trilu'))
  }

  #ordersPositions(op: string, left: string, right: string): boolean {
    return op !== 'Equal' && this.view.scalar(left) === undefined && this.view.scalar(right) === undefined
  }

  /** All that a value is computed from. */
  #cone(value: string): { readonly obstacle: string | undefined; readonly ordered: boolean } {
    const known = this.#cones.get(value)
    if (known) return known
    let obstacle: string | undefined
    let ordered = false
    const seen = new Set<string>()
    const pending = [value]
    for (let next = pending.pop(); next !== undefined && obstacle === undefined; next = pending.pop()) {
      if (seen.has(next)) continue
      seen.add(next)
      const tensor = this.view.stored(next)
      if (tensor) {
        if (isWeight(tensor)) obstacle = `depends on the weights '${next}'`
        else if (isMixedMatrix(tensor)) ordered = true
        continue
      }
      const node = this.view.producer(next)
      if (!node) continue
      const { opType, input } = node.proto
      // Whatever has the shape need not be computed for it.
      if (isOp(node, 'Shape') && shapeParts(this.view.graph, this.sizes, node.proto)) continue
      if (activations.has(opType)) obstacle = `depends on the ${opType} ${node.label}`
      else if (innerNodes(node.proto).length > 0) obstacle = `depends on the branch or loop ${node.label}`
      if (opType === 'Trilu') ordered = true
      if (comparisons.has(opType) && this.#ordersPositions(opType, input[0]!, input[1]!)) ordered = true
      pending.push(...node.inputs)
    }
    const cone = { obstacle, ordered }
    this.#cones.set(value, cone)
    return cone
  }
}

/** Floats that are neither one number nor a mask themselves: a learned or fixed bias. */
function isWeight(tensor: TensorProto): boolean {
  const { dataType } = tensor
  if (dataType !== DataType.FLOAT && dataType !== DataType.FLOAT16 && dataType !== DataType.DOUBLE) return false
  const numbers = tensorNumbers(tensor)!
  if (numbers.length <= 1) return false
  for (let i = 0; i < numbers.length; i++) if (numbers[i] !== 0 && !(numbers[i]! <= HIDDEN)) return true
  return false
}

/** A stored matrix that is not the same everywhere, such as a triangle of ones. */
function isMixedMatrix(tensor: TensorProto): boolean {
  if (tensor.dims.filter((size) => size > 1n).length < 2) return false
  const numbers = tensorNumbers(tensor) ?? []
  for (let i = 1; i < numbers.length; i++) if (numbers[i] !== numbers[0]) return true
  return false
}
