import type { GraphNode } from './graph.js'

/**
 * Which form an attention has in the file: a node of com.microsoft, the standard operator Attention, or plain products
 * around a Softmax.
 */
export type AttentionOpType = 'GroupQueryAttention' | 'MultiHeadAttention' | 'Attention' | 'Softmax'

/** One attention of the model, as the `attention` callback and `describe()` see it. */
export interface AttentionNode {
  /** The node's name in the file (the Softmax's where it is written out); made unique where there is none, or the same twice. */
  readonly name: string
  readonly opType: AttentionOpType
  /** 0-based position among the model's attentions, in the order in which they run. */
  readonly layer: number
  /** 0 where the file does not tell, which is an obstacle. */
  readonly queryHeads: number
  /** Divides `queryHeads`. */
  readonly kvHeads: number
  /** Where the file tells; otherwise known when the model has been loaded or has run. */
  readonly headDim: number | undefined
  /** Where a mask says so: as far as its form tells. Runs check what the mask really is. */
  readonly causal: boolean
  /** Factor on QKᵀ; undefined: 1/√headDim. */
  readonly scale: number | undefined
  /** The node rotates q and k itself; when it is replaced, onnxruntime-web does so before our attention. */
  readonly rotary: boolean
  /** It has a mask, which each run checks to be causal or to hide nothing. */
  readonly masked: boolean
  /** Why it cannot be replaced; undefined when it can. */
  readonly obstacle: string | undefined
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

export const noArguments: AttentionArguments = {
  query: '',
  key: '',
  value: '',
  bias: '',
  pastKey: '',
  pastValue: '',
  seqlensK: '',
  totalSequenceLength: '',
  cosCache: '',
  sinCache: '',
  positionIds: '',
  output: '',
  presentKey: '',
  presentValue: '',
}

/** Order of the four axes of a value; BHDL: keys that are transposed for the product. */
export type Layout = 'BHLD' | 'BLHD' | 'BHDL'

/** Layouts of values with four axes; those with three are [batch, length, heads · D]. */
export interface Layouts {
  readonly q: Layout
  readonly k: Layout
  readonly v: Layout
  /** 'BLE': three axes. */
  readonly out: Layout | 'BLE'
}

/** What a mask is made of: pairs are visible where all of these say so. */
export type MaskPart =
  /** `left op right`, broadcast. */
  | { readonly kind: 'compare'; readonly op: Comparison; readonly left: string; readonly right: string }
  /** Booleans, hidden where false; `negated`: hidden where true. */
  | { readonly kind: 'boolean'; readonly value: string; readonly negated: boolean }
  /** Numbers added to the scores: 0, or so low that nothing is left. */
  | { readonly kind: 'additive'; readonly value: string }

export type Comparison = 'Equal' | 'Less' | 'LessOrEqual' | 'Greater' | 'GreaterOrEqual'

/** An attention found in a graph, before anyone decides what to do with it. */
export interface FoundAttention {
  readonly node: AttentionNode
  /** The node in whose place ours runs. */
  readonly graphNode: GraphNode
  /** Nodes after it whose output ours writes instead. */
  readonly absorbed: readonly GraphNode[]
  readonly args: AttentionArguments
  readonly rotaryInterleaved: boolean
  readonly layouts: Layouts
  /** Empty: nothing is hidden but by `node.causal`. */
  readonly mask: readonly MaskPart[]
  /** Query i sees keys j ≤ past_length + i, whatever the number of keys: the rule of the standard operator. */
  readonly upperLeft: boolean
  /** Keys and values of past tokens are in a cache of ours: past is fed, and present given, no more. */
  readonly cached: boolean
}

/** Names and numbering are given when all attentions of a graph are known. */
export type FoundForm = Omit<FoundAttention, 'node'> & { readonly node: Omit<AttentionNode, 'name' | 'layer'> }
