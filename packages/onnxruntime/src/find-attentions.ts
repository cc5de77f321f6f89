import type { FoundAttention, FoundForm } from './attention-node.js'
import { cannotCut } from './errors.js'
import { isFused, readFused } from './forms/fused.js'
import { MaskReader } from './forms/mask.js'
import { readStandard } from './forms/standard.js'
import { readWrittenOut } from './forms/written-out.js'
import { type Graph, innerNodes } from './graph.js'
import { GraphView, isOp } from './graph-view.js'
import { sizesOf } from './sizes.js'
import { elementTypes } from './value-types.js'

/**
 * Finds the attentions of a graph, in the order in which they run: nodes of com.microsoft, the standard Attention, and those
 * written out around a Softmax.
 *
 * @throws INVALID_FILE for a malformed node; UNSUPPORTED for one of com.microsoft inside a subgraph or function
 */
export function findAttentions(graph: Graph): FoundAttention[] {
  for (const { name, node } of graph.model.functions) {
    const inner = node.flatMap((each) => [each, ...innerNodes(each)]).find(isFused)
    if (inner) throw cannotCut(inner.name || inner.opType, `it is inside the function ${name}, not in the main graph`)
  }
  const view = new GraphView(graph)
  const sizes = sizesOf(graph)
  const masks = new MaskReader(view, sizes, elementTypes(graph))
  const forms: { readonly label: string; readonly form: FoundForm }[] = []
  for (const node of graph.nodes) {
    const inner = innerNodes(node.proto).find(isFused)
    if (inner) throw cannotCut(inner.name || inner.opType, `it is inside a branch or loop of node ${node.label}`)
    const form = isFused(node.proto)
      ? readFused(graph, node)
      : isOp(node, 'Attention')
        ? readStandard(view, sizes, masks, node)
        : isOp(node, 'Softmax')
          ? readWrittenOut(view, sizes, masks, node)
          : undefined
    if (form) forms.push({ label: node.label, form })
  }
  return named(graph, forms)
}

/** Gives each a unique name, and its place among the others. */
function named(graph: Graph, forms: readonly { readonly label: string; readonly form: FoundForm }[]): FoundAttention[] {
  const position = new Map(graph.nodes.map((node, index) => [node, index]))
  const at = ({ form }: (typeof forms)[number]) => position.get(form.graphNode)!
  const names = new Set<string>()
  return [...forms]
    .sort((a, b) => at(a) - at(b))
    .map(({ label, form }, layer) => {
      let name = label
      for (let i = 2; names.has(name); i++) name = `${label} (${i})`
      names.add(name)
      return { ...form, node: { name, layer, ...form.node } }
    })
}
