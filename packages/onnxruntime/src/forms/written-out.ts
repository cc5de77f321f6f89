import { type FoundForm, type Layout, type MaskPart, noArguments } from '../attention-node.js'
import type { GraphNode } from '../graph.js'
import { type GraphView, intAttribute, intsAttribute, isOp } from '../graph-view.js'
import type { Size, Sizes } from '../sizes.js'
import { asItLies, repeatedHeads, scaling, swappedMatrix, transposed, unscaled } from './heads.js'
import { HIDDEN, type MaskReader } from './mask.js'

/**
 * Reads the attention around a Softmax, as exporters write it out:
 *
 *     MatMul(Softmax(MatMul(q, kᵀ) · scale + mask), v)
 *
 * with the scale before or after the product, a mask that is added or chosen with Where, guards against rows of NaN, casts,
 * and KV heads that are repeated for their group.
 *
 * @returns undefined for a Softmax of another kind, such as a classifier's
 */
export function readWrittenOut(
  view: GraphView,
  sizes: Sizes,
  masks: MaskReader,
  softmax: GraphNode,
): FoundForm | undefined {
  const after = readProbabilities(view, softmax)
  const before = readScores(view, masks, softmax.proto.input[0]!)
  if (!after || !before) return undefined
  const { product } = after
  const [left = '', right = ''] = before.product.proto.input
  const q = unscaled(view, left)
  const k = readKey(view, right)
  const value = view.source(product.proto.input[1]!)
  const heads = sizes.shape(left)?.[1]
  const query = asItLies(view, q.value)
  const { key, value: v, kvHeads, group } = readGroups(view, sizes, k, value)
  const shape = sizes.shape(left)
  const headDim = [shape?.[3], sizes.shape(value)?.[3]].find((size) => typeof size === 'number')
  const scale = before.factor * q.factor * k.factor
  const output = product.outputs[0]!
  const [reader, ...others] = view.readers(output)
  const transposes = reader && isOp(reader, 'Transpose') && intsAttribute(reader, 'perm')?.join() === '0,2,1,3'
  const absorbs = transposes && others.length === 0 && !view.isOutput(output)
  const queryHeads = typeof heads === 'number' ? heads : 0
  return {
    node: {
      opType: 'Softmax',
      queryHeads,
      kvHeads: typeof kvHeads === 'number' ? kvHeads : 0,
      headDim,
      causal: before.causal,
      scale,
      rotary: false,
      masked: before.parts.length > 0,
      obstacle:
        after.obstacle ??
        before.obstacle ??
        shapeObstacle(shape, sizes.shape(right), sizes.shape(value)) ??
        headObstacle(heads, kvHeads, group) ??
        (Number.isFinite(scale) && scale !== 0 ? undefined : `its scale is ${scale}`),
    },
    graphNode: product,
    absorbed: absorbs ? [reader] : [],
    args: {
      ...noArguments,
      query: query.value,
      key: key.value,
      value: v.value,
      output: absorbs ? reader.outputs[0]! : output,
    },
    rotaryInterleaved: false,
    layouts: { q: query.layout, k: key.layout, v: v.layout, out: absorbs ? 'BLHD' : 'BHLD' },
    mask: before.parts,
    upperLeft: false,
    cached: false,
  }
}

/** From the probabilities to their product with the values. */
function readProbabilities(
  view: GraphView,
  softmax: GraphNode,
): { readonly product: GraphNode; readonly obstacle: string | undefined } | undefined {
  let value = softmax.outputs[0]!
  let obstacle = readsLastAxis(view, softmax) ? undefined : 'its Softmax is not along the last of four axes'
  // Each step leaves a value behind, and a graph has no cycles.
  for (;;) {
    if (view.isOutput(value)) obstacle ??= `its probabilities '${value}' are an output of the graph`
    const readers = view.readers(value)
    const guard = readers.find((node) => isOp(node, 'Where') && isNanGuard(view, node, value))
    const next = guard ?? readers.find((node) => isOp(node, 'MatMul') || isOp(node, 'Cast') || isOp(node, 'Identity'))
    if (!next) return undefined
    const expected = guard ? 2 : 1
    if (readers.length > expected) obstacle ??= `its probabilities '${value}' are read by ${readers.length} nodes`
    if (isOp(next, 'MatMul')) return next.proto.input[0] === value ? { product: next, obstacle } : undefined
    value = next.outputs[0]!
  }
}

function readsLastAxis(view: GraphView, softmax: GraphNode): boolean {
  const axis = intAttribute(softmax, 'axis') ?? (view.graph.opset >= 13 ? -1 : 1)
  return axis === 3 || (axis === -1 && view.graph.opset >= 13)
}

/** Where(IsNaN(p), 0, p): rows that see no key. Ours are 0 too. */
function isNanGuard(view: GraphView, node: GraphNode, value: string): boolean {
  const [condition = '', zero = '', other = ''] = node.proto.input
  const isNan = view.producedBy(condition, 'IsNaN')
  return other === value && isNan?.proto.input[0] === value && view.scalar(zero) === 0
}

interface Scores {
  readonly product: GraphNode
  readonly factor: number
  readonly parts: readonly MaskPart[]
  readonly causal: boolean
  readonly obstacle: string | undefined
}

/** From the scores as Softmax sees them back to the product of queries and keys. */
function readScores(view: GraphView, masks: MaskReader, given: string): Scores | undefined {
  let value = given
  let factor = 1
  let causal = false
  let obstacle: string | undefined
  const parts: MaskPart[] = []
  for (;;) {
    const node = view.producer(value)
    if (!node) return undefined
    if (isOp(node, 'MatMul')) return { product: node, factor, parts, causal, obstacle }
    const scaled = scaling(view, node)
    const masked = scaled ? undefined : readMasked(view, masks, node)
    if (scaled) {
      value = scaled.value
      factor *= scaled.factor
    } else if (masked) {
      if (!(factor > 0)) obstacle ??= `its mask is multiplied by ${factor}`
      if ('obstacle' in masked.mask) obstacle ??= masked.mask.obstacle
      else {
        parts.push(...masked.mask.parts)
        causal ||= masked.mask.causal
      }
      value = masked.scores
    } else if (isOp(node, 'Cast')) value = node.proto.input[0]!
    else if (isOp(node, 'Tanh')) {
      obstacle ??= 'its scores have a soft cap (Tanh)'
      value = node.proto.input[0]!
    } else return undefined
  }
}

/** A mask that is added to scores, or puts something low in their place. */
function readMasked(view: GraphView, masks: MaskReader, node: GraphNode) {
  const [first = '', second = '', third = ''] = node.proto.input
  if (isOp(node, 'Add')) {
    if (leadsToScores(view, first)) return { scores: first, mask: masks.readAdditive(second) }
    return leadsToScores(view, second) ? { scores: second, mask: masks.readAdditive(first) } : undefined
  }
  if (!isOp(node, 'Where')) return undefined
  const low = (value: string) => (view.scalar(value) ?? 0) <= HIDDEN
  if (low(third)) return { scores: second, mask: masks.readCondition(first, false) }
  return low(second) ? { scores: third, mask: masks.readCondition(first, true) } : undefined
}

/** Whether a value is a product of matrices, scaled and masked at most. */
function leadsToScores(view: GraphView, given: string): boolean {
  const pending = [given]
  // Of the nodes that readScores goes through, none has more than three inputs; eight in a row are more than any export has.
  for (let steps = 0; steps < 64; steps++) {
    const value = pending.pop()
    if (value === undefined) return false
    const node = view.producer(value)
    if (!node) continue
    if (isOp(node, 'MatMul')) return true
    const scaled = scaling(view, node)
    if (scaled) pending.push(scaled.value)
    else if (isOp(node, 'Cast') || isOp(node, 'Tanh')) pending.push(node.proto.input[0]!)
    else if (isOp(node, 'Add')) pending.push(...node.proto.input)
    else if (isOp(node, 'Where')) pending.push(...node.proto.input.slice(1))
  }
  return false
}

interface Key {
  readonly value: string
  readonly factor: number
  /** BHLD where the file exchanges the last two axes of that; BHDL where it does not. */
  readonly layout: Layout
}

function readKey(view: GraphView, given: string): Key {
  const outer = unscaled(view, given)
  const heads = transposed(view, outer.value, [0, 2, 3, 1])
  if (heads !== undefined) return { value: heads, factor: outer.factor, layout: 'BLHD' }
  const swapped = swappedMatrix(view, outer.value)
  if (swapped === undefined) return { ...outer, layout: 'BHDL' }
  const inner = unscaled(view, swapped)
  return { value: inner.value, factor: outer.factor * inner.factor, layout: 'BHLD' }
}

/** Keys and values before they are repeated for the query heads, when both are. */
function readGroups(view: GraphView, sizes: Sizes, key: Key, value: string) {
  const k = key.layout === 'BHLD' ? repeatedHeads(view, sizes, key.value) : undefined
  const v = repeatedHeads(view, sizes, value)
  const group = k && v && k.group === v.group ? k.group : 1
  const [keyValue, valueValue] = group > 1 ? [k!.value, v!.value] : [key.value, value]
  return {
    key: key.layout === 'BHLD' ? asItLies(view, keyValue) : { value: keyValue, layout: key.layout },
    value: asItLies(view, valueValue),
    kvHeads: sizes.shape(keyValue)?.[key.layout === 'BLHD' ? 2 : 1],
    group,
  }
}

function shapeObstacle(...shapes: readonly (readonly Size[] | undefined)[]): string | undefined {
  const [q, k, v] = shapes
  if (!q || !k || !v) return 'the file does not tell the shapes of its queries, keys and values'
  const odd = shapes.find((shape) => shape!.length !== 4)
  if (odd) return `its queries, keys and values have ${odd.length} axes, not four`
  const [dim, other] = [q[3], v[3]]
  if (typeof dim === 'number' && typeof other === 'number' && dim !== other) {
    return `its keys have a head dim of ${dim}, its values of ${other}`
  }
  const [heads, keyHeads] = [q[1], k[1]]
  const known = typeof heads === 'number' && typeof keyHeads === 'number'
  if (!known || heads === keyHeads || keyHeads === 1) return undefined
  return `its queries have ${heads} heads, its keys ${keyHeads}`
}

function headObstacle(queryHeads: Size | undefined, kvHeads: Size | undefined, group: number): string | undefined {
  if (typeof queryHeads !== 'number' || typeof kvHeads !== 'number') return 'the file does not tell its number of heads'
  if (![queryHeads, kvHeads].every(Number.isSafeInteger)) return `it has ${queryHeads} query and ${kvHeads} KV heads`
  const shares = kvHeads >= 1 && (kvHeads === 1 || kvHeads * group === queryHeads)
  return shares ? undefined : `its ${queryHeads} query heads do not share ${kvHeads} KV heads`
}
