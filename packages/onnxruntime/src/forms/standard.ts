import { AttributeProto_AttributeType as Kind } from 'onnx-buf'
import { type AttentionArguments, type FoundForm, type Layouts, noArguments } from '../attention-node.js'
import { invalidFile } from '../errors.js'
import type { GraphNode } from '../graph.js'
import { attribute, type GraphView, intAttribute, intsAttribute, isOp } from '../graph-view.js'
import type { Size, Sizes } from '../sizes.js'
import { asItLies } from './heads.js'
import type { MaskReader, ReadMask } from './mask.js'

/** Attributes that are understood. The precision of the softmax is f32 here, and the mode is of an output that is refused. */
const known: ReadonlySet<string> = new Set(
  'is_causal kv_num_heads q_num_heads scale softcap softmax_precision qk_matmul_output_mode'.split(' '),
)

/**
 * Reads the operator Attention of the standard operators, versions 23 and 24.
 *
 * @throws INVALID_FILE for a node that breaks the operator's rules
 */
export function readStandard(view: GraphView, sizes: Sizes, masks: MaskReader, graphNode: GraphNode): FoundForm {
  const { proto, label } = graphNode
  const [query = '', key = '', value = '', mask = '', pastKey = '', pastValue = ''] = proto.input
  const [output = '', presentKey = '', presentValue = ''] = proto.output
  if (query === '' || key === '' || value === '' || output === '') {
    throw invalidFile(`Node ${label} lacks ${output === '' ? 'an output' : 'one of Q, K and V'}.`, label)
  }
  if ((pastKey === '') !== (pastValue === '')) {
    throw invalidFile(`Node ${label} has only one of past_key and past_value.`, label)
  }
  const args: AttentionArguments = {
    ...noArguments,
    query,
    key,
    value,
    pastKey,
    pastValue,
    output,
    presentKey,
    presentValue,
  }
  const threeAxes = attribute(graphNode, 'q_num_heads') !== undefined
  const [queryHeads, kvHeads] = threeAxes
    ? [intAttribute(graphNode, 'q_num_heads'), intAttribute(graphNode, 'kv_num_heads')]
    : [sizes.shape(query)?.[1], sizes.shape(key)?.[1]]
  const read: ReadMask = mask === '' ? { parts: [], causal: false } : masks.readArgument(mask)
  const causal = intAttribute(graphNode, 'is_causal') === 1
  const scale = attribute(graphNode, 'scale')
  const { layouts, absorbed, ...renamed } = layOut(view, graphNode, args, threeAxes)
  const shape = sizes.shape(query)
  const last = shape?.at(-1)
  const heads = (size: Size | undefined) => (typeof size === 'number' ? size : 0)
  const headDim = typeof last !== 'number' ? undefined : threeAxes ? last / heads(queryHeads) : last
  return {
    node: {
      opType: 'Attention',
      queryHeads: heads(queryHeads),
      kvHeads: heads(kvHeads),
      headDim: Number.isInteger(headDim) ? headDim : undefined,
      causal: causal || ('parts' in read && read.causal),
      scale: scale?.f,
      rotary: false,
      masked: mask !== '',
      obstacle:
        argumentObstacle(graphNode) ??
        headObstacle(queryHeads, kvHeads) ??
        shapeObstacle(threeAxes ? 3 : 4, shape, sizes.shape(key), sizes.shape(value)) ??
        ('obstacle' in read ? read.obstacle : undefined) ??
        (causal && pastKey !== '' && !view.graph.inputs.has(pastKey)
          ? 'it is causal with a past that is computed, whose length is not known beforehand'
          : undefined),
    },
    graphNode,
    absorbed,
    args: { ...args, ...renamed },
    rotaryInterleaved: false,
    layouts,
    mask: 'parts' in read ? read.parts : [],
    upperLeft: causal,
    cached: false,
  }
}

/** Values with four axes before and after they are transposed for the operator. */
function layOut(view: GraphView, node: GraphNode, args: AttentionArguments, threeAxes: boolean) {
  const plain: Layouts = { q: 'BHLD', k: 'BHLD', v: 'BHLD', out: threeAxes ? 'BLE' : 'BHLD' }
  if (threeAxes) return { layouts: plain, absorbed: [] }
  const q = asItLies(view, args.query)
  // Past and present have the heads first.
  const joined = args.pastKey !== '' || args.presentKey !== '' || args.presentValue !== ''
  const [k, v] = [args.key, args.value].map((value) =>
    joined ? { value, layout: 'BHLD' as const } : asItLies(view, value),
  ) as [ReturnType<typeof asItLies>, ReturnType<typeof asItLies>]
  const [reader, ...others] = view.readers(args.output)
  const transposes = reader && isOp(reader, 'Transpose') && intsAttribute(reader, 'perm')?.join() === '0,2,1,3'
  const absorbs =
    transposes &&
    others.length === 0 &&
    !view.isOutput(args.output) &&
    !node.outputs.slice(1).some((each) => view.readers(each).includes(reader))
  return {
    query: q.value,
    key: k.value,
    value: v.value,
    output: absorbs ? reader.outputs[0]! : args.output,
    layouts: { q: q.layout, k: k.layout, v: v.layout, out: absorbs ? ('BLHD' as const) : ('BHLD' as const) },
    absorbed: absorbs ? [reader] : [],
  }
}

function argumentObstacle(node: GraphNode): string | undefined {
  const { proto } = node
  const unknown = proto.attribute.find(({ name }) => !known.has(name))
  if (unknown) return `its attribute ${unknown.name} is not known here`
  const wrongType = proto.attribute.find(
    ({ name, type }) => type !== (name === 'scale' || name === 'softcap' ? Kind.FLOAT : Kind.INT),
  )
  if (wrongType) return `its attribute ${wrongType.name} has the wrong type`
  const softcap = attribute(node, 'softcap')?.f ?? 0
  if (softcap !== 0) return `its attribute softcap is ${softcap}, only 0 is supported`
  const scale = attribute(node, 'scale')?.f
  if (scale !== undefined && (!Number.isFinite(scale) || scale === 0)) return `its scale is ${scale}`
  if ((proto.input[6] ?? '') !== '') return `its input nonpad_kv_seqlen ('${proto.input[6]}') is not supported`
  if ((proto.output[3] ?? '') !== '') return `its output qk_matmul_output ('${proto.output[3]}') is not supported`
  return undefined
}

function headObstacle(queryHeads: Size | undefined, kvHeads: Size | undefined): string | undefined {
  if (typeof queryHeads !== 'number' || typeof kvHeads !== 'number') return 'the file does not tell its number of heads'
  if (![queryHeads, kvHeads].every(Number.isSafeInteger)) return `it has ${queryHeads} query and ${kvHeads} KV heads`
  const shares = kvHeads >= 1 && queryHeads >= 1 && queryHeads % kvHeads === 0
  return shares ? undefined : `its ${queryHeads} query heads do not share ${kvHeads} KV heads`
}

function shapeObstacle(rank: number, ...shapes: readonly (readonly Size[] | undefined)[]): string | undefined {
  const odd = shapes.find((shape) => shape && shape.length !== rank)
  if (odd) return `its queries, keys and values should have ${rank} axes, not ${odd.length}`
  const [, k, v] = shapes
  const [width, other] = [k?.at(-1), v?.at(-1)]
  const differ = typeof width === 'number' && typeof other === 'number' && width !== other
  return differ ? `its keys are ${width} wide, its values ${other}` : undefined
}
