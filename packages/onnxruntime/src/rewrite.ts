import type { FoundAttention, Layouts } from './attention-node.js'
import type { Graph } from './graph.js'
import { declaredTensor, MICROSOFT, makeInt64, makeNode, type NodeProto, type TensorProto } from './onnx.js'
import { shapeInput } from './shape-inputs.js'

/** What takes the place of an attention node: standard nodes up to q, k and v; after them our attention. */
export interface Rewritten {
  readonly nodes: readonly NodeProto[]
  readonly initializers: readonly TensorProto[]
  /** Values of [batch, length, heads · head_dim], or of four axes. */
  readonly q: string
  readonly k: string
  readonly v: string
  /** How those of four axes lie. */
  readonly layouts: Layouts
}

/**
 * Writes what an attention node does besides attention as nodes of its own: unpacking, bias, rotary embedding, and past
 * and new keys joined to the present ones. onnxruntime-web computes them.
 *
 * @param taken names in use in the graph; new ones are added
 */
export function rewriteAttention(graph: Graph, found: FoundAttention, taken: Set<string>): Rewritten {
  const { args, node } = found
  const write = new Writer(found.node.name, taken)
  let { query: q, key: k, value: v } = args
  if (k === '') {
    const parts = node.opType === 'GroupQueryAttention' ? unpackHeads(write, q, node) : [0, 1, 2].map(unpack(write, q))
    ;[q, k, v] = parts as [string, string, string]
  } else if (v === '') {
    ;[k, v] = [0, 1].map(unpack(write, k)) as [string, string]
  }
  if (args.bias !== '') [q, k, v] = addBias(write, args.bias, [q, k, v])
  if (node.rotary) {
    // Given positions have been found to be these: see LengthCheck.
    const positions = firstPosition(write, found)
    q = rotate(write, graph, found, q, positions, node.queryHeads, 'q')
    k = rotate(write, graph, found, k, positions, node.kvHeads, 'k')
  }
  if (!found.cached && (args.pastKey !== '' || args.presentKey !== '')) {
    const split = found.layouts.out === 'BLE'
    k = present(write, k, split ? node.kvHeads : undefined, args.pastKey, args.presentKey, 'k')
    v = present(write, v, split ? node.kvHeads : undefined, args.pastValue, args.presentValue, 'v')
  }
  const { layouts } = found
  if (layouts.k === 'BHDL') k = write.node('Transpose', [k], { perm: [0, 1, 3, 2] }, 'k_rows')
  // Our attention takes outputs of nodes, so that the provider decides where they lie.
  const asOutput = (value: string, part: string) =>
    graph.inputs.has(value) || graph.initializers.has(value) ? write.node('Identity', [value], {}, part) : value
  return {
    q: asOutput(q, 'q'),
    k: asOutput(k, 'k'),
    v: asOutput(v, 'v'),
    layouts: layouts.k === 'BHDL' ? { ...layouts, k: 'BHLD' } : layouts,
    nodes: write.nodes,
    initializers: write.initializers,
  }
}

class Writer {
  readonly nodes: NodeProto[] = []
  readonly initializers: TensorProto[] = []

  constructor(
    private readonly prefix: string,
    private readonly taken: Set<string>,
  ) {}

  /** Adds a node and returns the name of its output. */
  node(
    opType: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, bigint | readonly number[]>>,
    part: string,
    { domain = '', output = this.fresh(part) }: { domain?: string; output?: string } = {},
  ): string {
    this.nodes.push(makeNode(output, opType, inputs, [output], attributes, domain))
    return output
  }

  int64(values: number | readonly number[]): string {
    const name = this.fresh('int64')
    this.initializers.push(makeInt64(name, values))
    return name
  }

  private fresh(part: string): string {
    let name = `${this.prefix}/${part}`
    for (let i = 2; this.taken.has(name); i++) name = `${this.prefix}/${part}_${i}`
    this.taken.add(name)
    return name
  }
}

/** GroupQueryAttention's packed [batch, length, (Hq + 2·Hkv) · D], in the order q, k, v. */
function unpackHeads(
  write: Writer,
  packed: string,
  { queryHeads, kvHeads }: { queryHeads: number; kvHeads: number },
): [string, string, string] {
  const total = queryHeads + 2 * kvHeads
  const heads = write.node('Reshape', [packed, write.int64([0, 0, total, -1])], {}, 'heads')
  const part = (start: number, end: number, name: string) => {
    const slice = write.node(
      'Slice',
      [heads, write.int64([start]), write.int64([end]), write.int64([2])],
      {},
      `${name}_heads`,
    )
    return write.node('Reshape', [slice, write.int64([0, 0, -1])], {}, `${name}_unpacked`)
  }
  return [part(0, queryHeads, 'q'), part(queryHeads, queryHeads + kvHeads, 'k'), part(queryHeads + kvHeads, total, 'v')]
}

/** A part of MultiHeadAttention's packed [batch, length, heads, 2 or 3, D]. */
function unpack(write: Writer, packed: string): (index: number) => string {
  return (index) => {
    const part = write.node('Gather', [packed, write.int64(index)], { axis: 3n }, `part_${index}`)
    return write.node('Reshape', [part, write.int64([0, 0, -1])], {}, `unpacked_${index}`)
  }
}

/** MultiHeadAttention's bias [3 · heads · D], for q, k and v. */
function addBias(write: Writer, bias: string, qkv: [string, string, string]): [string, string, string] {
  const rows = write.node('Reshape', [bias, write.int64([3, -1])], {}, 'bias_rows')
  return qkv.map((value, index) => {
    const row = write.node('Gather', [rows, write.int64(index)], { axis: 0n }, `bias_${index}`)
    return write.node('Add', [value, row], {}, `biased_${index}`)
  }) as [string, string, string]
}

/** Position of the first new token, int64 [1]: RotaryEmbedding counts on from it. */
function firstPosition(write: Writer, { args: { pastKey }, cached }: FoundAttention): string {
  if (pastKey === '') return write.int64([0])
  const shape = cached ? shapeInput(pastKey) : write.node('Shape', [pastKey], {}, 'past_shape')
  return write.node('Gather', [shape, write.int64([2])], { axis: 0n }, 'past_length')
}

function rotate(
  write: Writer,
  graph: Graph,
  { args, rotaryInterleaved }: FoundAttention,
  value: string,
  positions: string,
  heads: number,
  part: string,
): string {
  // The cache's width tells how much of a head is rotated. Where it is not known: all of it, checked by onnxruntime-web.
  const cache = graph.initializers.get(args.cosCache)
  const width = cache ? Number(cache.dims[1]) : declaredTensor(graph.declared.get(args.cosCache))?.dims?.[1]
  const rotaryDim = typeof width === 'number' ? BigInt(2 * width) : 0n
  return write.node(
    'RotaryEmbedding',
    [value, positions, args.cosCache, args.sinCache],
    { num_heads: BigInt(heads), rotary_embedding_dim: rotaryDim, interleaved: rotaryInterleaved ? 1n : 0n },
    `${part}_rotated`,
    { domain: MICROSOFT },
  )
}

/**
 * [batch, length, heads · D] → [batch, heads, length, D], after what is past. onnxruntime takes past only with 3 axes.
 *
 * @param heads undefined: the value has four axes already
 */
function present(
  write: Writer,
  value: string,
  heads: number | undefined,
  past: string,
  output: string,
  part: string,
): string {
  const named = output === '' ? {} : { output }
  if (heads === undefined) {
    if (past === '') return write.node('Identity', [value], {}, `${part}_present`, named)
    return write.node('Concat', [past, value], { axis: 2n }, `${part}_present`, named)
  }
  const split = write.node('Reshape', [value, write.int64([0, 0, heads, -1])], {}, `${part}_heads`)
  if (past === '') return write.node('Transpose', [split], { perm: [0, 2, 1, 3] }, `${part}_present`, named)
  const moved = write.node('Transpose', [split], { perm: [0, 2, 1, 3] }, `${part}_moved`)
  return write.node('Concat', [past, moved], { axis: 2n }, `${part}_present`, named)
}
