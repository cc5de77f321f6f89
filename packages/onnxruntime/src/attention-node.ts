import { AttributeProto_AttributeType as Kind } from 'onnx-buf'
import { cannotCut, invalidFile } from './errors.js'
import { type Graph, type GraphNode, innerNodes } from './graph.js'
import { type Dim, declaredTensor, MICROSOFT, type NodeProto } from './onnx.js'

export type AttentionOpType = 'GroupQueryAttention' | 'MultiHeadAttention'

/** One attention of the model, as the `attention` callback and `describe()` see it. */
export interface AttentionNode {
  /** The node's name in the file; made unique where the file has none, or the same twice. */
  readonly name: string
  readonly opType: AttentionOpType
  /** 0-based position among the model's attentions, in the order in which they run. */
  readonly layer: number
  readonly queryHeads: number
  /** Divides `queryHeads`. */
  readonly kvHeads: number
  /** Where the file tells; otherwise known when the model has been loaded or has run. */
  readonly headDim: number | undefined
  readonly causal: boolean
  /** Factor on QKᵀ; undefined: 1/√headDim. */
  readonly scale: number | undefined
  /** The node rotates q and k itself; when it is replaced, onnxruntime-web does so before our attention. */
  readonly rotary: boolean
}

/** A node's arguments by name, '' where absent. */
export interface AttentionArguments {
  readonly query: string
  readonly key: string
  readonly value: string
  readonly bias: string
  readonly pastKey: string
  readonly pastValue: string
  readonly seqlensK: string
  readonly totalSequenceLength: string
  readonly cosCache: string
  readonly sinCache: string
  readonly positionIds: string
  readonly output: string
  readonly presentKey: string
  readonly presentValue: string
}

/** An attention found in a graph, before anyone decides what to do with it. */
export interface FoundAttention {
  readonly node: AttentionNode
  readonly graphNode: GraphNode
  readonly args: AttentionArguments
  readonly rotaryInterleaved: boolean
}

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
const otherInputs: Readonly<Record<AttentionOpType, Readonly<Record<number, string>>>> = {
  GroupQueryAttention: { 10: 'attention_bias', 11: 'head_sink', 12: 'k_scale', 13: 'v_scale' },
  MultiHeadAttention: { 4: 'key_padding_mask', 5: 'attention_bias', 8: 'past_sequence_length', 9: 'cache_indirection' },
}

/** Attributes that we understand: `true` for any value, otherwise the one value that changes nothing. */
const attributes: Readonly<Record<AttentionOpType, Readonly<Record<string, true | number | string>>>> = {
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

/**
 * Finds GroupQueryAttention and MultiHeadAttention nodes, in the order in which they run.
 *
 * @throws INVALID_FILE for a malformed node; UNSUPPORTED for one inside a subgraph or function
 */
export function findAttentions(graph: Graph): FoundAttention[] {
  for (const { name, node } of graph.model.functions) {
    const inner = node.flatMap((each) => [each, ...innerNodes(each)]).find(isAttention)
    if (inner) throw cannotCut(inner.name || inner.opType, `it is inside the function ${name}, not in the main graph`)
  }
  const names = new Set<string>()
  const found: FoundAttention[] = []
  for (const graphNode of graph.nodes) {
    const inner = innerNodes(graphNode.proto).find(isAttention)
    if (inner) {
      throw cannotCut(inner.name || inner.opType, `it is inside a branch or loop of node ${graphNode.label}`)
    }
    if (!isAttention(graphNode.proto)) continue
    let name = graphNode.label
    for (let i = 2; names.has(name); i++) name = `${graphNode.label} (${i})`
    names.add(name)
    found.push(readAttention(graph, graphNode, name, found.length))
  }
  return found
}

function isAttention(node: NodeProto): boolean {
  return node.domain === MICROSOFT && Object.hasOwn(inputNames, node.opType)
}

function readAttention(graph: Graph, graphNode: GraphNode, name: string, layer: number): FoundAttention {
  const { proto } = graphNode
  const opType = proto.opType as AttentionOpType
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
  const node: AttentionNode = {
    name,
    opType,
    layer,
    queryHeads,
    kvHeads,
    headDim: declaredHeadDim(graph, args, queryHeads, kvHeads),
    causal: grouped || attribute.get('unidirectional') === 1,
    scale: scale === 0 ? undefined : scale,
    rotary,
  }
  return { node, graphNode, args, rotaryInterleaved: attribute.get('rotary_interleaved') === 1 }
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

function readArguments(proto: NodeProto, opType: AttentionOpType): AttentionArguments {
  const named: Record<string, string> = {}
  for (const [index, key] of inputNames[opType].entries()) if (key !== '') named[key] = proto.input[index] ?? ''
  const input = (key: keyof AttentionArguments) => named[key] ?? ''
  const [output = '', presentKey = '', presentValue = ''] = proto.output
  return {
    query: input('query'),
    key: input('key'),
    value: input('value'),
    bias: input('bias'),
    pastKey: input('pastKey'),
    pastValue: input('pastValue'),
    seqlensK: input('seqlensK'),
    totalSequenceLength: input('totalSequenceLength'),
    cosCache: input('cosCache'),
    sinCache: input('sinCache'),
    positionIds: input('positionIds'),
    output,
    presentKey,
    presentValue,
  }
}

/** Rules of the operators that a graph can break. */
function checkArguments(args: AttentionArguments, opType: AttentionOpType, rotary: boolean, name: string): void {
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
export function headDimOfQuery(
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

/**
 * Refuses what would change the meaning of an attention that we replace.
 *
 * @throws UNSUPPORTED naming the node, the input or attribute, and the reason
 */
export function checkReplaceable({ node, graphNode, args }: FoundAttention, graph: Graph): void {
  const { name, opType } = node
  const { proto } = graphNode
  for (const [key, value] of readAttributes(proto, name)) {
    const neutral = Object.hasOwn(attributes[opType], key) ? attributes[opType][key] : undefined
    if (neutral === undefined) throw cannotCut(name, `its attribute ${key} is not known here`)
    if (neutral !== true && value !== neutral) {
      throw cannotCut(name, `its attribute ${key} is ${value}, only ${neutral} is supported`)
    }
  }
  for (const [index, value] of proto.input.entries()) {
    if (value === '' || inputNames[opType][index]) continue
    throw cannotCut(name, `its input ${otherInputs[opType][index] ?? index} ('${value}') is not supported`)
  }
  const extra = proto.output.findIndex((value, index) => index > 2 && value !== '')
  if (extra >= 0) throw cannotCut(name, `its output ${extra} ('${proto.output[extra]}') is not supported`)
  const rank = (value: string) => declaredTensor(graph.declared.get(value))?.dims?.length
  const keyRank = rank(args.key)
  if (keyRank === 4 && [args.bias, args.pastKey, args.presentKey].some((value) => value !== '')) {
    throw cannotCut(name, 'its key has four axes, which is supported only without bias, past and present')
  }
}
