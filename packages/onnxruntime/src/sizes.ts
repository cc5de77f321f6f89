import { tensorNumbers } from './constants.js'
import type { Graph, GraphNode } from './graph.js'
import { attribute, GraphView, intAttribute, intsArgument, intsAttribute } from './graph-view.js'
import { declaredTensor } from './onnx.js'

const known = new WeakMap<Graph, Sizes>()

/** The sizes of a graph, worked out once. */
export function sizesOf(graph: Graph): Sizes {
  let sizes = known.get(graph)
  if (!sizes) {
    sizes = new Sizes(new GraphView(graph))
    known.set(graph, sizes)
  }
  return sizes
}

/** Where a run tells a size: an axis of an input. */
export interface SizeOrigin {
  readonly input: string
  readonly axis: number
}

/** A size that the file tells, or a name: equal names are equal sizes. */
export type Size = number | string

/**
 * Shapes of a graph's values as far as the file and the operators around attention tell, with names for the sizes that
 * only a run tells. Exporters declare few of them, and onnxruntime-web does not say what it infers.
 *
 * What is not known is left out, so a matcher that finds no shape leaves the node alone.
 */
export class Sizes {
  readonly #shapes = new Map<string, readonly Size[]>()
  /** Elements of the integer vectors and scalars that shapes are made of. */
  readonly #integers = new Map<string, readonly Size[]>()
  readonly #origins = new Map<string, SizeOrigin>()
  #unknown = 0

  constructor(private readonly view: GraphView) {
    const { graph } = view
    for (const [name, { dims }] of graph.initializers) this.#shapes.set(name, dims.map(Number))
    for (const [name, info] of graph.declared) {
      const dims = declaredTensor(info)?.dims
      if (dims)
        this.#shapes.set(
          name,
          dims.map((dim) => dim ?? this.#name()),
        )
    }
    for (const input of [...graph.inputs.keys(), ...graph.shapeInputs.values()]) {
      for (const [axis, size] of (this.#shapes.get(input) ?? []).entries()) {
        if (typeof size === 'string' && !this.#origins.has(size)) this.#origins.set(size, { input, axis })
      }
    }
    for (const node of graph.nodes) this.#visit(node)
  }

  /** Where a run tells a named size, if it is that of an input. */
  origin(name: string): SizeOrigin | undefined {
    return this.#origins.get(name)
  }

  shape(value: string): readonly Size[] | undefined {
    return this.#shapes.get(value)
  }

  /** Elements of a value that holds sizes. */
  integers(value: string): readonly Size[] | undefined {
    return this.#integers.get(value) ?? this.view.constant(value)
  }

  #name(): string {
    return `?${this.#unknown++}`
  }

  #names(count: number): readonly Size[] | undefined {
    return count > 8 ? undefined : Array.from({ length: count }, () => this.#name())
  }

  #visit(node: GraphNode): void {
    const [output = ''] = node.proto.output
    if (node.proto.domain !== '' && node.proto.domain !== 'ai.onnx') return
    const integers = this.#integersOf(node)
    if (integers && integers.length <= 64) this.#integers.set(output, integers)
    for (const [index, shape] of (this.#shapesOf(node) ?? []).entries()) {
      const name = node.proto.output[index] ?? ''
      if (name !== '' && shape) this.#shapes.set(name, this.#merge(this.#shapes.get(name), shape))
    }
  }

  /** What is declared and what is inferred: numbers first, then names that come from the graph's inputs. */
  #merge(declared: readonly Size[] | undefined, inferred: readonly Size[]): readonly Size[] {
    if (!declared || declared.length !== inferred.length) return inferred
    return inferred.map((size, axis) => (typeof declared[axis] === 'number' ? declared[axis] : size))
  }

  #shapesOf(node: GraphNode): readonly (readonly Size[] | undefined)[] | undefined {
    const { input, opType } = node.proto
    const shape = (index: number) => this.#shapes.get(input[index] ?? '')
    const first = shape(0)
    if (sameShape.has(opType)) return first && [first]
    if (broadcasting.has(opType)) return [this.#broadcast(input.map((value) => this.#shapes.get(value)))]
    switch (opType) {
      case 'Constant': {
        const dims = attribute(node, 'value')?.t?.dims.map(Number)
        return dims && [dims]
      }
      case 'MatMul':
        return [this.#matMul(first, shape(1))]
      case 'Gemm': {
        const second = shape(1)
        if (first?.length !== 2 || second?.length !== 2) return undefined
        return [[first[intAttribute(node, 'transA') ? 1 : 0]!, second[intAttribute(node, 'transB') ? 0 : 1]!]]
      }
      case 'Transpose': {
        const perm = intsAttribute(node, 'perm')
        return first && perm?.length === first.length ? [perm.map((axis) => first[axis] ?? this.#name())] : undefined
      }
      case 'Reshape': {
        const target = this.integers(input[1] ?? '')
        return target && [this.#reshape(first, target, intAttribute(node, 'allowzero') === 1)]
      }
      case 'Expand': {
        const rank = shape(1)?.[0]
        const target = this.integers(input[1] ?? '') ?? (typeof rank === 'number' ? this.#names(rank) : undefined)
        return first && target && [this.#broadcast([first, target])]
      }
      case 'Unsqueeze': {
        const axes = intsArgument(this.view, node, 1, 'axes')
        return first && axes && [unsqueeze(first, axes)]
      }
      case 'Squeeze': {
        const axes = intsArgument(this.view, node, 1, 'axes')?.map((axis) =>
          axis < 0 ? axis + (first?.length ?? 0) : axis,
        )
        return first && axes && [first.filter((_, axis) => !axes.includes(axis))]
      }
      case 'Concat':
        return [this.#concat(node)]
      case 'Split':
        return this.#split(node, first)
      case 'Gather': {
        const second = shape(1)
        const axis = intAttribute(node, 'axis') ?? 0
        const at = first && axis < 0 ? axis + first.length : axis
        return first && second && [[...first.slice(0, at), ...second, ...first.slice(at + 1)]]
      }
      case 'GatherElements':
        return [shape(1)]
      case 'Slice':
        return this.#slice(node, first)
      case 'Range': {
        const [start, limit, delta] = input.map((value) => this.integers(value)?.[0])
        return [[start === 0 && delta === 1 && limit !== undefined ? limit : this.#name()]]
      }
      case 'Conv':
        return first && [this.#conv(node, first, shape(1))]
      case 'Shape':
        return first && [[first.length]]
      case 'ConstantOfShape': {
        const target = this.integers(input[0] ?? '')
        return target && [target]
      }
      case 'ReduceMean':
      case 'ReduceSum': {
        if (intAttribute(node, 'keepdims') === 0 || !first) return undefined
        const axes = intsArgument(this.view, node, 1, 'axes')?.map((axis) => (axis < 0 ? axis + first.length : axis))
        return axes && [first.map((size, axis) => (axes.includes(axis) ? 1 : size))]
      }
      default:
        return undefined
    }
  }

  #integersOf(node: GraphNode): readonly Size[] | undefined {
    const { input, opType } = node.proto
    const from = (index: number) => this.integers(input[index] ?? '')
    switch (opType) {
      case 'Shape': {
        const shape = this.#shapes.get(input[0]!)
        return shape?.slice(intAttribute(node, 'start') ?? 0, intAttribute(node, 'end') ?? shape.length)
      }
      case 'Identity':
      case 'Cast':
      case 'Unsqueeze':
      case 'Squeeze':
      case 'Reshape':
        return from(0)
      case 'Gather': {
        const [numbers, indices] = [from(0), from(1)]
        const picked = indices?.map((index) => numbers?.at(Number(index)))
        return picked?.every((each) => each !== undefined) ? (picked as Size[]) : undefined
      }
      case 'Concat': {
        const parts = input.map((value) => this.integers(value))
        return parts.every((part) => part !== undefined) ? parts.flat() : undefined
      }
      case 'Slice': {
        const [numbers, start, end, , step] = [0, 1, 2, 3, 4].map(from)
        const simple = step === undefined || step[0] === 1
        if (!numbers || typeof start?.[0] !== 'number' || typeof end?.[0] !== 'number' || !simple) return undefined
        return numbers.slice(start[0], end[0])
      }
      case 'ConstantOfShape': {
        const [count] = from(0) ?? []
        const few = typeof count === 'number' && Number.isInteger(count) && count >= 0 && count <= 64
        const fill = attribute(node, 'value')?.t
        const number = fill ? tensorNumbers(fill)?.[0] : 0
        return few && from(0)!.length === 1 && number !== undefined ? new Array<number>(count).fill(number) : undefined
      }
      case 'Mul':
      case 'Add':
        return pairs(from(0), from(1), (a, b) => this.#arithmetic(opType, a, b))
      case 'Equal':
        return pairs(from(0), from(1), (a, b) =>
          typeof a === 'number' && typeof b === 'number' ? Number(a === b) : this.#positive(a, b),
        )
      case 'Where': {
        const [condition, yes, no] = [from(0), from(1), from(2)]
        if (!condition || yes?.length !== condition.length || no?.length !== condition.length) return undefined
        return condition.map((each, i) => (each === 1 ? yes[i]! : each === 0 ? no[i]! : this.#name()))
      }
      default:
        return undefined
    }
  }

  #arithmetic(opType: 'Mul' | 'Add', a: Size, b: Size): Size {
    if (typeof a === 'number' && typeof b === 'number') return opType === 'Mul' ? a * b : a + b
    // The same sum or product of the same sizes gets the same name, unless it is one that no exporter would write.
    const name = `(${[a, b].map(String).sort().join(opType)})`
    return name.length < 200 ? name : this.#name()
  }

  /** Whether a size equals a number: a size of a tensor is never negative. */
  #positive(a: Size, b: Size): Size {
    const number = typeof a === 'number' ? a : b
    return typeof number === 'number' && number < 0 ? 0 : this.#name()
  }

  #broadcast(shapes: readonly (readonly Size[] | undefined)[]): readonly Size[] | undefined {
    const known = shapes.filter((shape) => shape !== undefined)
    if (known.length < shapes.length) return undefined
    const rank = Math.max(...known.map(({ length }) => length))
    return Array.from({ length: rank }, (_, axis) => {
      const sizes = known
        .map((shape) => shape[axis - rank + shape.length] ?? 1)
        .filter((size) => size !== 1 && size !== -1)
      const number = sizes.find((size) => typeof size === 'number')
      if (number !== undefined) return number
      const different = new Set(sizes)
      return different.size === 0 ? 1 : different.size === 1 ? sizes[0]! : this.#name()
    })
  }

  #matMul(a: readonly Size[] | undefined, b: readonly Size[] | undefined): readonly Size[] | undefined {
    if (!a || !b || a.length < 2 || b.length < 2) return undefined
    const batch = this.#broadcast([a.slice(0, -2), b.slice(0, -2)])
    return batch && [...batch, a.at(-2)!, b.at(-1)!]
  }

  /** [batch, channels, …] with sizes that the kernel's position leaves, where all is told. */
  #conv(node: GraphNode, from: readonly Size[], weight: readonly Size[] | undefined): readonly Size[] | undefined {
    const [batch, , ...spatial] = from
    if (batch === undefined || weight?.length !== from.length || padsItself(node)) return undefined
    const ints = (name: string, neutral: number) =>
      intsAttribute(node, name) ?? new Array<number>(2 * spatial.length).fill(neutral)
    const [pads, strides, dilations] = [ints('pads', 0), ints('strides', 1), ints('dilations', 1)]
    const sizes = spatial.map((size, axis): Size => {
      const kernel = weight[axis + 2]
      if (typeof size !== 'number' || typeof kernel !== 'number') return this.#name()
      const padded = size + pads[axis]! + pads[axis + spatial.length]!
      const positions = Math.floor((padded - (kernel - 1) * dilations[axis]! - 1) / strides[axis]!) + 1
      return Number.isSafeInteger(positions) ? positions : this.#name()
    })
    return [batch, weight[0]!, ...sizes]
  }

  #reshape(from: readonly Size[] | undefined, target: readonly Size[], zeroIsZero: boolean): readonly Size[] {
    const copied = target.map((size, axis) => (size === 0 && !zeroIsZero ? (from?.[axis] ?? this.#name()) : size))
    return copied.map((size) => (size === -1 ? this.#rest(from, copied) : size))
  }

  /** What a −1 in a reshape stands for: what is left when the sizes of both sides cancel. */
  #rest(from: readonly Size[] | undefined, target: readonly Size[]): Size {
    if (!from) return this.#name()
    const names = from.filter((size) => typeof size === 'string')
    let divisor = 1
    for (const size of target) {
      if (typeof size === 'number') divisor *= size === -1 ? 1 : size
      else {
        const at = names.indexOf(size)
        if (at < 0) return this.#name()
        names.splice(at, 1)
      }
    }
    const product = from.reduce<number>((total, size) => (typeof size === 'number' ? total * size : total), 1)
    const rest = product / divisor
    if (names.length === 0) return Number.isInteger(rest) ? rest : this.#name()
    return names.length === 1 && rest === 1 ? names[0]! : this.#name()
  }

  #concat(node: GraphNode): readonly Size[] | undefined {
    const shapes = node.proto.input.map((value) => this.#shapes.get(value))
    const [first] = shapes
    const given = intAttribute(node, 'axis')
    if (!first || given === undefined || shapes.some((shape) => shape?.length !== first.length)) return undefined
    const axis = given < 0 ? given + first.length : given
    const sizes = shapes.map((shape) => shape![axis]!)
    const sum = sizes.reduce((a, b) => this.#arithmetic('Add', a, b))
    const others = (at: number) =>
      shapes.map((shape) => shape![at]!).find((size) => typeof size === 'number') ?? first[at]!
    return first.map((_, at) => (at === axis ? sum : others(at)))
  }

  #split(node: GraphNode, shape: readonly Size[] | undefined): readonly (readonly Size[])[] | undefined {
    if (!shape) return undefined
    const given = intAttribute(node, 'axis') ?? 0
    const axis = given < 0 ? given + shape.length : given
    const size = shape[axis]
    const parts = intsArgument(this.view, node, 1, 'split')
    const count = node.proto.output.length
    return node.proto.output.map((_, index) => {
      const equal = typeof size === 'number' && size % count === 0 ? size / count : this.#name()
      return shape.map((each, at) => (at === axis ? (parts?.[index] ?? equal) : each))
    })
  }

  #slice(node: GraphNode, shape: readonly Size[] | undefined): readonly (readonly Size[])[] | undefined {
    if (!shape) return undefined
    const [starts, ends, axes, steps] = [1, 2, 3, 4].map((index) => this.integers(node.proto.input[index] ?? ''))
    const cut = axes?.map((axis) => Number(axis) + (Number(axis) < 0 ? shape.length : 0))
    return [
      shape.map((size, axis) => {
        const at = cut ? cut.indexOf(axis) : axis
        if (at < 0) return size
        const [start, end, step] = [starts?.[at], ends?.[at], steps?.[at] ?? 1]
        if (start !== 0 || step !== 1 || end === undefined) return this.#name()
        // A table that is shorter than what is asked of it does not fit what it is added to, so the graph would not run.
        if (typeof end === 'string') return end
        return typeof size === 'number' && end >= 0 ? Math.min(size, end) : this.#name()
      }),
    ]
  }
}

function padsItself(node: GraphNode): boolean {
  const mode = new TextDecoder().decode(attribute(node, 'auto_pad')?.s)
  return mode !== '' && mode !== 'NOTSET'
}

function unsqueeze(shape: readonly Size[], axes: readonly number[]): readonly Size[] {
  const rank = shape.length + axes.length
  const added = new Set(axes.map((axis) => (axis < 0 ? axis + rank : axis)))
  const rest = [...shape]
  return Array.from({ length: rank }, (_, axis) => (added.has(axis) ? 1 : (rest.shift() ?? 1)))
}

function pairs(
  a: readonly Size[] | undefined,
  b: readonly Size[] | undefined,
  combine: (a: Size, b: Size) => Size,
): readonly Size[] | undefined {
  if (!a || !b || (a.length !== b.length && a.length !== 1 && b.length !== 1)) return undefined
  const count = Math.max(a.length, b.length)
  return Array.from({ length: count }, (_, i) => combine(a[a.length === 1 ? 0 : i]!, b[b.length === 1 ? 0 : i]!))
}

const sameShape: ReadonlySet<string> = new Set(
  'Identity Cast Neg Softmax Sigmoid Tanh Relu Erf Gelu Sqrt Reciprocal Cos Sin IsNaN Not LayerNormalization RMSNormalization CumSum Dropout Trilu'.split(
    ' ',
  ),
)

const broadcasting: ReadonlySet<string> = new Set(
  'Add Sub Mul Div Pow Where And Or Equal Less LessOrEqual Greater GreaterOrEqual Min Max'.split(' '),
)
