import { AttributeProto_AttributeType as Kind } from 'onnx-buf'
import { type AttentionArguments, type FoundForm, noArguments } from '../attention-node.js'
import { invalidFile } from '../errors.js'
import type { Graph, GraphNode } from '../graph.js'
import { type Dim, declaredTensor, MICROSOFT, type NodeProto } from '../onnx.js'

type FusedOpType = 'GroupQueryAttention' | 'MultiHeadAttention'

const inputNames = {
  GroupQueryAttention: [
    'query',
    'key',
    'value',
    'pastKey',
    'pastValue',
    'seqlensK',
    'totalSequenceLength',
    'cosCache',
    'sinCache',
    'positionIds',
  ],
  MultiHeadAttention: ['query', 'key', 'value', 'bias', '', '', 'pastKey', 'pastValue'],
} as const

/** What the inputs that we do not take are called in onnxruntime's operator list. */
const otherInputs: Readonly<Record<FusedOpType, Readonly<Record<number, string>>>> = {
  GroupQueryAttention: { 10: 'attention_bias', 11: 'head_sink', 12: 'k_scale', 13: 'v_scale' },
  MultiHeadAttention: { 4: 'key_padding_mask', 5: 'attention_bias', 8: 'past_sequence_length', 9: 'cache_indirection' },
}

/** Attributes that we understand: `true` for any value, otherwise the one value that changes nothing. */
const attributes: Readonly<Record<FusedOpType, Readonly<Record<string, true | number | string>>>> = {
  GroupQueryAttention: {
    num_heads: true,
    kv_num_heads: true,
    scale: true,
    do_rotary: true,
    rotary_interleaved: true,
    local_window_size: -1,
    softcap: 0,
    smooth_softmax: 0,
    qk_output: 0,
    k_quant_type: 'NONE',
    v_quant_type: 'NONE',
    kv_cache_bit_width: 0,
  },
  // The filter value is for masks, which we do not take.
  MultiHeadAttention: { num_heads: true, scale: true, unidirectional: true, mask_filter_value: true },
}

/** Whether a node is one of the two attention operators of com.microsoft that are understood. */
export function isFused(node: NodeProto): boolean {
  return node.domain === MICROSOFT && Object.hasOwn(inputNames, node.opType)
}

/**
 * Reads a GroupQueryAttention or MultiHeadAttention.
 *
 * @throws INVALID_FILE for a malformed node
 */
export function readFused(graph: Graph, graphNode: GraphNode): FoundForm {
  const { proto, label: name } = graphNode
  const opType = proto.opType as FusedOpType
  const attribute = readAttributes(proto, name)
  const grouped = opType === 'GroupQueryAttention'
  const queryHeads = heads(attribute, 'num_heads', name)
  const kvHeads = grouped ? heads(attribute, 'kv_num_heads', name) : queryHeads
  if (queryHeads % kvHeads !== 0) {
    throw invalidFile(`Node ${name} has num_heads ${queryHeads}, which kv_num_heads ${kvHeads} does not divide.`, name)
  }
  const scale = attribute.get('scale') ?? 0
  if (typeof scale !== 'number' || !Number.isFinite(scale)) {
    throw invalidFile(`Node ${name} has the scale ${scale}.`, name)
  }
  const args = readArguments(proto, opType)
  const rotary = grouped && attribute.get('do_rotary') === 1
  checkArguments(args, opType, rotary, name)
  return {
    node: {
      opType,
      queryHeads,
      kvHeads,
      headDim: declaredHeadDim(graph, args, queryHeads, kvHeads),
      causal: grouped || attribute.get('unidirectional') === 1,
      scale: scale === 0 ? undefined : scale,
      rotary,
      masked: false,
      obstacle: obstacle(graph, proto, opType, args, attribute),
    },
    graphNode,
    absorbed: [],
    args,
    rotaryInterleaved: attribute.get('rotary_interleaved') === 1,
    layouts: { q: 'BHLD', k: 'BHLD', v: 'BHLD', out: 'BLE' },
    mask: [],
    upperLeft: false,
    cached: false,
  }
}

function readAttributes(proto: NodeProto, name: string): Map<string, number | string> {
  const values = new Map<string, number | string>()
  for (const attribute of proto.attribute) {
    if (values.has(attribute.name)) throw invalidFile(`Node ${name} has two attributes ${attribute.name}.`, name)
    const { type, i, f, s } = attribute
    if (type === Kind.INT) values.set(attribute.name, Number(i))
    else if (type === Kind.FLOAT) values.set(attribute.name, f)
    else if (type === Kind.STRING) values.set(attribute.name, new TextDecoder().decode(s))
    else throw invalidFile(`Attribute ${attribute.name} of node ${name} is not a number or a string.`, name)
  }
  return values
}

function heads(values: ReadonlyMap<string, number | string>, attribute: string, name: string): number {
  const value = values.get(attribute)
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1 || value > 65_535) {
    throw invalidFile(`Node ${name} has ${attribute} ${value ?? 'missing'}; it must be 1 to 65535.`, name)
  }
  return value
}

function readArguments(proto: NodeProto, opType: FusedOpType): AttentionArguments {
  const named: Record<string, string> = {}
  for (const [index, key] of inputNames[opType].entries()) if (key !== '') named[key] = proto.input[index] ?? ''
  const [output = '', presentKey = '', presentValue = ''] = proto.output
  return { ...noArguments, ...named, output, presentKey, presentValue }
}

/** Rules of the operators that a graph can break. */
function checkArguments(args: AttentionArguments, opType: FusedOpType, rotary: boolean, name: string): void {
  const grouped = opType === 'GroupQueryAttention'
  const together = (a: string, b: string) => (a === '') === (b === '')
  const required: [boolean, string][] = [
    [args.output !== '', 'has no output'],
    [args.query !== '', 'has no query'],
    [args.value === '' || args.key !== '', 'has a value but no key'],
    [!grouped || together(args.key, args.value), 'has only one of key and value'],
    [together(args.pastKey, args.pastValue), 'has only one of past_key and past_value'],
    [together(args.presentKey, args.presentValue), 'has only one of present_key and present_value'],
    [!grouped || args.seqlensK !== '', 'has no seqlens_k'],
    [!grouped || args.totalSequenceLength !== '', 'has no total_sequence_length'],
    [!rotary || (args.cosCache !== '' && args.sinCache !== ''), 'has do_rotary but no cos_cache and sin_cache'],
  ]
  const broken = required.find(([holds]) => !holds)
  if (broken) throw invalidFile(`Node ${name} ${broken[1]}.`, name)
}

function declaredHeadDim(
  graph: Graph,
  args: AttentionArguments,
  queryHeads: number,
  kvHeads: number,
): number | undefined {
  const dims = (value: string): readonly Dim[] | undefined => declaredTensor(graph.declared.get(value))?.dims
  const past = dims(args.pastKey)
  if (past?.length === 4) return positive(past[3])
  const query = dims(args.query)
  return query && headDimOfQuery(query, args, queryHeads, kvHeads)
}

/** The head dim that a query of these dims means; undefined when they do not say. */
function headDimOfQuery(
  dims: readonly Dim[],
  args: AttentionArguments,
  queryHeads: number,
  kvHeads: number,
): number | undefined {
  const last = positive(dims[dims.length - 1])
  if (last === undefined || dims.length === 5) return last
  const headCount = args.key === '' ? queryHeads + 2 * kvHeads : queryHeads
  return dims.length === 3 && last % headCount === 0 ? last / headCount : undefined
}

function positive(dim: Dim): number | undefined {
  return typeof dim === 'number' && Number.isSafeInteger(dim) && dim > 0 ? dim : undefined
}

/** What would change the meaning of an attention that we replace. */
function obstacle(
  graph: Graph,
  proto: NodeProto,
  opType: FusedOpType,
  args: AttentionArguments,
  given: ReadonlyMap<string, number | string>,
): string | undefined {
  for (const [key, value] of given) {
    const neutral = Object.hasOwn(attributes[opType], key) ? attributes[opType][key] : undefined
    if (neutral === undefined) return `its attribute ${key} is not known here`
    if (neutral !== true && value !== neutral) return `its attribute ${key} is ${value}, only ${neutral} is supported`
  }
  for (const [index, value] of proto.input.entries()) {
    if (value === '' || inputNames[opType][index]) continue
    return `its input ${otherInputs[opType][index] ?? index} ('${value}') is not supported`
  }
  const extra = proto.output.findIndex((value, index) => index > 2 && value !== '')
  if (extra >= 0) return `its output ${extra} ('${proto.output[extra]}') is not supported`
  const keyRank = declaredTensor(graph.declared.get(args.key))?.dims?.length
  if (keyRank === 4 && [args.bias, args.pastKey, args.presentKey].some((value) => value !== '')) {
    return 'its key has four axes, which is supported only without bias, past and present'
  }
  return undefined
}
