import type { BufferSlice } from './tensor.js'

/** What every plan knows of the call it was made for. */
export interface PlanGeometry {
  readonly batch: number
  readonly queryHeads: number
  readonly queryLength: number
  readonly keyLength: number
  /** Bottom-right: query i sees keys j ≤ i + key_length − query_length. */
  readonly causal: boolean
}

/** Nothing is skipped. */
export interface DensePlanData {
  readonly kind: 'dense'
}

/** Heads of an order of tokens: what a plan's geometry says of it. */
export interface PermutationGeometry {
  /** Heads with an order of keys of their own: the KV heads, or `queryHeads`. Divides `queryHeads`. */
  readonly keyHeads: number
}

/**
 * Orders of tokens that a plan's rows and keys are counted in: the token at each position. Only of plans that are not causal.
 * Programs that do not say `permutedPlans` are not given such plans. What is read from a plan on the host is of tokens again.
 */
export interface PlanPermutation extends PermutationGeometry {
  /** i32[B, Hq, Lq], a permutation of the queries of each head. */
  readonly queries: BufferSlice
  /** i32[B, keyHeads, Lk], a permutation of the keys of each head. */
  readonly keys: BufferSlice
}

export interface BlockGeometry extends PlanGeometry {
  /** Block sizes in tokens; the last block of a ragged length is short. */
  readonly blockQ: number
  readonly blockK: number
}

/**
 * Canonical block plan: bit c%32 of word [b, h, a, c/32] says that query block a of query head h computes key block c.
 * u32[B, Hq, nq, ceil(nk/32)], contiguous.
 */
export interface BlockPlanData extends BlockGeometry {
  readonly kind: 'block'
  readonly bitmap: BufferSlice
}

/** A list of stripes: `width` consecutive keys each. Width 1 is single columns or tokens, a page's size is pages. */
export interface StripeList {
  readonly width: number
  /** Entries that there is room for in each row of the list. */
  readonly capacity: number
}

export interface StripeGeometry extends PlanGeometry {
  /** Query rows that share a row of the lists. */
  readonly blockQ: number
  /** Heads of the lists: `queryHeads`, or the KV heads where a group of query heads shares one row. Divides `queryHeads`. */
  readonly heads: number
  /** One or two. */
  readonly lists: readonly StripeList[]
}

/**
 * A bounded selection: for each block of queries, lists of stripes of keys. Stripes of one row are disjoint, also across
 * lists, and ascending within a list. One may reach past the last visible key; what lies there is not computed.
 */
export interface StripePlanData extends StripeGeometry {
  readonly kind: 'stripe'
  /** i32[lists, B, heads, nq]: entries of each row. */
  readonly counts: BufferSlice
  /** Lists one after another, each i32[B, heads, nq, capacity]: the first key of each stripe, padded with −1. */
  readonly indices: BufferSlice
}

export interface VariableBlockGeometry extends PlanGeometry {
  readonly queryBlocks: number
  readonly keyBlocks: number
  /** Heads of the key blocks: the KV heads, or `queryHeads`. Divides `queryHeads`. */
  readonly keyHeads: number
}

/** A block plan whose blocks differ in size, such as clusters of permuted tokens. Empty blocks are allowed. */
export interface VariableBlockPlanData extends VariableBlockGeometry {
  readonly kind: 'variable-block'
  /** u32[B, Hq, queryBlocks, ceil(keyBlocks/32)], as of a block plan. */
  readonly bitmap: BufferSlice
  /** i32[B, Hq, queryBlocks + 1]: first row of each block, ascending from 0 to query_length. */
  readonly queryStarts: BufferSlice
  /** i32[B, keyHeads, keyBlocks + 1]: first key of each block, ascending from 0 to key_length. */
  readonly keyStarts: BufferSlice
}

/** A plan of blocks of permuted tokens: its rows and keys are positions in these orders. */
export type PermutedPlanData = (BlockPlanData | VariableBlockPlanData) & { readonly permutation: PlanPermutation }

export type PlanData = DensePlanData | BlockPlanData | StripePlanData | VariableBlockPlanData | PermutedPlanData
export type PlanKind = PlanData['kind']

/** Geometry of a block plan: how many blocks, and how many words a row of them takes. */
export function blockGrid(plan: Pick<BlockGeometry, 'queryLength' | 'keyLength' | 'blockQ' | 'blockK'>): {
  queryBlocks: number
  keyBlocks: number
  wordsPerRow: number
} {
  const keyBlocks = Math.ceil(plan.keyLength / plan.blockK)
  return { queryBlocks: Math.ceil(plan.queryLength / plan.blockQ), keyBlocks, wordsPerRow: Math.ceil(keyBlocks / 32) }
}

/** Last key that query row i sees under bottom-right causality, −1 for none. */
export function lastVisibleKey(plan: { queryLength: number; keyLength: number; causal: boolean }, row: number): number {
  return plan.causal ? Math.min(plan.keyLength - 1, row + plan.keyLength - plan.queryLength) : plan.keyLength - 1
}

/** Elements, 4 bytes each, of the arrays that a plan of this kind and geometry is made of. */
export function planElements(plan: Omit<BlockPlanData, 'bitmap'>): { bitmap: number }
export function planElements(plan: Omit<StripePlanData, 'counts' | 'indices'>): { counts: number; indices: number }
export function planElements(plan: Omit<VariableBlockPlanData, 'bitmap' | 'queryStarts' | 'keyStarts'>): {
  bitmap: number
  queryStarts: number
  keyStarts: number
}
export function planElements(plan: PlanForm): Record<string, number>
export function planElements(plan: PlanForm): Record<string, number> {
  switch (plan.kind) {
    case 'block': {
      const { queryBlocks, wordsPerRow } = blockGrid(plan)
      return { bitmap: plan.batch * plan.queryHeads * queryBlocks * wordsPerRow, ...permutationElements(plan) }
    }
    case 'stripe': {
      const rows = plan.batch * plan.heads * Math.ceil(plan.queryLength / plan.blockQ)
      const entries = plan.lists.reduce((sum, { capacity }) => sum + capacity, 0)
      return { counts: plan.lists.length * rows, indices: entries * rows }
    }
    case 'variable-block':
      return {
        bitmap: plan.batch * plan.queryHeads * plan.queryBlocks * Math.ceil(plan.keyBlocks / 32),
        queryStarts: plan.batch * plan.queryHeads * (plan.queryBlocks + 1),
        keyStarts: plan.batch * plan.keyHeads * (plan.keyBlocks + 1),
        ...permutationElements(plan),
      }
  }
}

/** The orders of a plan of permuted tokens. */
export function permutationOf(plan: PlanData): PlanPermutation | undefined {
  return 'permutation' in plan ? plan.permutation : undefined
}

function permutationElements(plan: PlanForm): Record<string, number> {
  if (!('permutation' in plan)) return {}
  const { batch, queryHeads, queryLength, keyLength, permutation } = plan
  return {
    'permutation.queries': batch * queryHeads * queryLength,
    'permutation.keys': batch * permutation.keyHeads * keyLength,
  }
}

/** A plan's kind and geometry, without its arrays. */
export type PlanForm = BlockForm | StripeForm | VariableBlockForm | PermutedForm
type BlockForm = BlockGeometry & { readonly kind: 'block' }
type StripeForm = StripeGeometry & { readonly kind: 'stripe' }
type VariableBlockForm = VariableBlockGeometry & { readonly kind: 'variable-block' }
type PermutedForm = (BlockForm | VariableBlockForm) & { readonly permutation: PermutationGeometry }
