import type { GraphNode } from '../graph.js'
import { type GraphView, intsArgument, intsAttribute } from '../graph-view.js'
import type { Size, Sizes } from '../sizes.js'

/** A value up to a constant factor. */
export interface Scaled {
  readonly value: string
  readonly factor: number
}

/** Takes products with constants off a value. */
export function unscaled(view: GraphView, given: string): Scaled {
  let value = view.source(given)
  let factor = 1
  for (;;) {
    const step = scaling(view, view.producer(value))
    if (!step) return { value, factor }
    value = view.source(step.value)
    factor *= step.factor
  }
}

/** A Mul or Div by one constant. */
export function scaling(view: GraphView, node: GraphNode | undefined): Scaled | undefined {
  if (node?.proto.domain !== '') return undefined
  const [first = '', second = ''] = node.proto.input
  const divisor = view.scalar(second)
  if (node.proto.opType === 'Div') return divisor === undefined ? undefined : { value: first, factor: 1 / divisor }
  if (node.proto.opType !== 'Mul') return undefined
  const other = view.scalar(first)
  if (divisor !== undefined) return { value: first, factor: divisor }
  return other === undefined ? undefined : { value: second, factor: other }
}

/** The input of a Transpose with this permutation. */
export function transposed(view: GraphView, value: string, perm: readonly number[]): string | undefined {
  const node = view.producedBy(value, 'Transpose')
  const given = node && intsAttribute(node, 'perm')
  return given?.join() === perm.join() ? view.source(node!.proto.input[0]!) : undefined
}

/** [B, H, L, D] that is a transposed [B, L, H, D] needs no copy: attention takes both. */
export function asItLies(view: GraphView, value: string): { readonly value: string; readonly layout: 'BHLD' | 'BLHD' } {
  const inner = transposed(view, value, [0, 2, 1, 3])
  return inner === undefined ? { value, layout: 'BHLD' } : { value: inner, layout: 'BLHD' }
}

/** The last two axes of a value of four exchanged, as exporters write it; undefined when they are not. */
export function swappedMatrix(view: GraphView, value: string): string | undefined {
  return transposed(view, value, [0, 1, 3, 2]) ?? swappedThroughThreeAxes(view, value)
}

/** x [B, H, L, D] → Reshape [−1, L, D] → Transpose → Reshape [B, H, D, L], with all sizes taken from Shape(x). */
function swappedThroughThreeAxes(view: GraphView, value: string): string | undefined {
  const outer = view.producedBy(value, 'Reshape')
  const middle = outer && transposed(view, outer.proto.input[0]!, [0, 2, 1])
  const inner = middle === undefined ? undefined : view.producedBy(middle, 'Reshape')
  if (!inner) return undefined
  const x = view.source(inner.proto.input[0]!)
  const part = (list: string, index: number) => {
    const parts = view.producedBy(list, 'Concat')?.proto.input
    return parts?.length === 3 ? parts[index]! : ''
  }
  const sizes = (at: string) => sliceOfShape(view, at, x)?.join()
  const [from, to] = [inner.proto.input[1]!, outer!.proto.input[1]!]
  const flattens =
    view.scalar(part(from, 0)) === -1 && sizes(part(from, 1)) === '-2,-1' && sizes(part(from, 2)) === '-1,'
  const restores = sizes(part(to, 0)) === ',-2' && sizes(part(to, 1)) === '-1,' && sizes(part(to, 2)) === '-2,-1'
  return flattens && restores ? x : undefined
}

/** [start, end] of a slice of the shape of x; undefined stands for either end of the shape. */
function sliceOfShape(view: GraphView, value: string, x: string): [number | undefined, number | undefined] | undefined {
  const node = view.producedBy(value, 'Slice')
  const shape = node && view.producedBy(node.proto.input[0]!, 'Shape')
  if (!shape || view.source(shape.proto.input[0]!) !== x) return undefined
  const whole = shape.proto.attribute.every(({ name, i }) => name !== 'end' && (name !== 'start' || i === 0n))
  const [start, end] = [view.scalar(node!.proto.input[1] ?? ''), view.scalar(node!.proto.input[2] ?? '')]
  if (!whole || start === undefined || end === undefined) return undefined
  return [start < -1000 || start === 0 ? undefined : start, end > 1000 ? undefined : end]
}

/** KV heads that are repeated for each query head of their group, before the repetition. */
export interface Repeated {
  /** [B, Hkv, L, D] */
  readonly value: string
  readonly group: number
}

/** x [B, Hkv, L, D] → Unsqueeze [B, Hkv, 1, L, D] → Expand [B, Hkv, group, L, D] → Reshape [B, Hkv · group, L, D]. */
export function repeatedHeads(view: GraphView, sizes: Sizes, value: string): Repeated | undefined {
  const reshape = view.producedBy(value, 'Reshape')
  const expand = reshape && view.producedBy(reshape.proto.input[0]!, 'Expand')
  const unsqueeze = expand && view.producedBy(expand.proto.input[0]!, 'Unsqueeze')
  if (!unsqueeze || intsArgument(view, unsqueeze, 1, 'axes')?.join() !== '2') return undefined
  const x = view.source(unsqueeze.proto.input[0]!)
  const shape = sizes.shape(x)
  const expanded = sizes.integers(expand!.proto.input[1]!)
  const result = sizes.integers(reshape!.proto.input[1]!)
  if (shape?.length !== 4 || expanded?.length !== 5 || result?.length !== 4) return undefined
  const [batch, heads, length, headDim] = shape as readonly [Size, Size, Size, Size]
  const group = expanded[2]
  if (typeof heads !== 'number' || typeof group !== 'number' || group < 1) return undefined
  // Nothing but the new axis may grow, and nothing but the heads may be merged.
  const grows = [batch, heads, group, length, headDim].some((size, axis) => ![size, 1, -1].includes(expanded[axis]!))
  const merged = [batch, heads * group, length, headDim].every((size, axis) => [size, -1].includes(result[axis]!))
  const open = result.filter((size) => size === -1).length
  return grows || !merged || open > 1 ? undefined : { value: x, group }
}
