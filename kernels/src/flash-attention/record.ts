import {
  type AttentionFrame,
  type BlockPlanData,
  type BufferSlice,
  blockGrid,
  bytesPerElement,
  type Cost,
  type Dispatch,
  type Kernel,
  type PlanData,
  type Runtime,
  SparseAttentionError,
  type StripePlanData,
  type VariableBlockPlanData,
} from '@sparse-attention/core'
import { attentionCallValues } from '../shared/attention-call.js'
import { bindContiguous, bindTensor } from '../shared/bind.js'
import { stripeListValues } from '../shared/stripe-lists.js'
import { addressValues, packUniforms, type UniformFields } from '../shared/uniforms.js'
import { ROWS } from './options.js'
import type { RowPieces } from './pieces/pieces.js'
import { type RowItems, rowItemCount } from './row-items.js'
import type { SingleKeys } from './single-keys.js'
import { flashAttentionUniforms, skipUniforms, voteUniforms } from './uniforms.js'
import { type WalkedPlan, walks } from './walk.js'

/** Keys per step of a dense walk: any multiple of the tiles will do. */
const DENSE_SPAN = 1024

/** A compiled kernel, and what its dispatches bind and pass besides the tensors. */
export interface CompiledFlash {
  readonly kernel: Kernel
  readonly plan: WalkedPlan
  /** Of variable blocks: finds the rows of each workgroup. */
  readonly rowItems?: RowItems
  /** Of stripes: lists their keys one by one where the kernel cannot walk their width. */
  readonly singleKeys?: SingleKeys
  /** Rows of a workgroup. */
  readonly rows: number
  /** Workgroups that a call must have for this form to be taken where there are others. Default 0. */
  readonly workgroups?: number
  /** Operations in the time that other kernels take for one: the work budget is made for those. Default 1. */
  readonly speed?: number
  /** What it does on this adapter, where that is known: decides how much goes into one dispatch. */
  readonly operationsPerSecond?: number
  /** Rows can vote on the blocks of a plan. Default false. */
  readonly votes?: boolean
  /** Of plans of blocks: balances them. The kernel then computes pieces. */
  readonly pieces?: RowPieces
}

/** What a kernel with `skip` writes and decides by. */
export interface Skip {
  /** In the unit of scores, natural log, negative. */
  readonly threshold: number
  /** Leave tiles out that no row votes for; otherwise they are only marked. */
  readonly now: boolean
  /** u32[B, Hq, ceil(Lq / 64), ceil(ceil(Lk / tileKeys) / 32)]: the tiles that got a vote. */
  readonly kept: BufferSlice
  readonly tileKeys: number
}

/** What a kernel with `votes` writes and decides by. */
export interface BlockVotes {
  /** Base 2, in the unit of scaled scores, at most 0: a block whose largest score is so far below a row's maximum matters little to it. */
  readonly threshold: number
  /** u32, as the plan's bitmap: gets the bits of needed blocks, on top of those that it has. */
  readonly needed: BufferSlice
}

/** Dispatches that attend over a plan, cut so that none runs into a watchdog. */
export function recordFlash(
  runtime: Runtime,
  flash: CompiledFlash,
  frame: AttentionFrame,
  plan: PlanData,
  { skip, votes }: { readonly skip?: Skip; readonly votes?: BlockVotes | undefined } = {},
): Dispatch[] {
  let walked = walkedPlan(flash.plan, plan)
  const dispatches: Dispatch[] = []
  let items: BufferSlice | undefined
  if (flash.rowItems) {
    const found = flash.rowItems(frame, walked as VariableBlockPlanData | undefined)
    items = found.items
    dispatches.push(found.dispatch)
  }
  const listed = walked && flash.singleKeys?.(frame, walked as StripePlanData)
  if (listed) {
    walked = listed.plan
    dispatches.push(listed.dispatch)
  }
  const cut = flash.pieces && walked ? flash.pieces(frame, walked as BlockPlanData) : undefined
  const bindings = [
    ...planBindings(flash.plan, walked, frame, items),
    ...(skip ? [skip.kept] : []),
    // Without votes nothing is written, but the binding must be filled.
    ...(flash.votes ? [votes?.needed ?? frame.scratch(16)] : []),
    ...(cut ? [cut.pieces, cut.parts] : []),
  ]
  const values = {
    ...planValues(flash.plan, walked, frame),
    ...(skip ? skipValues(frame, skip) : {}),
    ...(flash.votes ? { vote_threshold: votes?.threshold ?? 0, vote: Number(votes !== undefined) } : {}),
  }
  const fields = {
    ...flashAttentionUniforms,
    ...walks[flash.plan].uniforms,
    ...(skip ? skipUniforms : {}),
    ...(flash.votes ? voteUniforms : {}),
  }
  const rowBlocks = items
    ? rowItemCount(frame, (walked as VariableBlockPlanData | undefined)?.queryBlocks ?? 1)
    : Math.ceil(frame.queryLength / flash.rows)
  const { operationsPerSecond, speed = 1 } = flash
  const operationsPerDispatch =
    operationsPerSecond === undefined ? runtime.dispatchBudget() * speed : runtime.dispatchBudget(operationsPerSecond)
  const record = (range: DispatchRange) =>
    attend(runtime, flash, frame, range, fields, values, walked === undefined, bindings)
  if (cut) {
    const ranges = pieceRanges(frame, flash.rows, rowBlocks, cut.count, operationsPerDispatch)
    return [...cut.before, ...ranges.map(record), cut.after]
  }
  for (const range of rowRanges(frame, flash.rows, rowBlocks, operationsPerDispatch)) dispatches.push(record(range))
  return dispatches
}

type Walked = Exclude<PlanData, { kind: 'dense' }>

/** The plan, if it is one to walk. */
function walkedPlan(kind: WalkedPlan, plan: PlanData): Walked | undefined {
  if (plan.kind === 'dense') return undefined
  if (plan.kind === kind) return plan
  throw new SparseAttentionError('UNSUPPORTED', {
    message: `The plan is of kind '${plan.kind}', this attention was compiled for '${kind}' plans.`,
    fix: `Use a method that makes such plans, e.g. dense({ plan: '${plan.kind}' }).`,
    where: 'plan',
  })
}

function planBindings(
  kind: WalkedPlan,
  plan: Walked | undefined,
  frame: AttentionFrame,
  items: BufferSlice | undefined,
): BufferSlice[] {
  // A dense call reads no plan, but the bindings must be filled.
  const nothing = () => frame.scratch(16)
  switch (kind) {
    case 'block':
      return [plan ? (plan as BlockPlanData).bitmap : nothing()]
    case 'stripe': {
      const stripes = plan as StripePlanData | undefined
      return stripes ? [stripes.counts, stripes.indices] : [nothing(), nothing()]
    }
    case 'variable-block': {
      const blocks = plan as VariableBlockPlanData | undefined
      return blocks ? [blocks.bitmap, blocks.keyStarts, items!] : [nothing(), nothing(), items!]
    }
  }
}

function skipValues(
  frame: AttentionFrame,
  { threshold, now, tileKeys }: Skip,
): Record<keyof typeof skipUniforms, number> {
  return {
    skip_threshold: threshold * Math.LOG2E,
    skip_now: now ? 1 : 0,
    kept_words: Math.ceil(Math.ceil(frame.keyLength / tileKeys) / 32),
  }
}

function planValues(kind: WalkedPlan, plan: Walked | undefined, frame: AttentionFrame): Record<string, number> {
  switch (kind) {
    case 'block': {
      const blocks = (plan as BlockPlanData | undefined) ?? { ...frame, blockQ: ROWS, blockK: DENSE_SPAN }
      const { queryBlocks, wordsPerRow } = blockGrid(blocks)
      return {
        plan_heads: frame.queryHeads,
        plan_block_q: blocks.blockQ,
        plan_block_k: blocks.blockK,
        plan_rows: queryBlocks,
        plan_words: wordsPerRow,
      }
    }
    case 'stripe': {
      const dense = { heads: 1, blockQ: frame.queryLength, lists: [{ width: 1, capacity: 1 }] }
      const { heads, blockQ, lists } = (plan as StripePlanData | undefined) ?? dense
      const rows = Math.ceil(frame.queryLength / blockQ)
      return {
        plan_heads: heads,
        plan_block_q: blockQ,
        plan_rows: rows,
        list_rows: frame.batch * heads * rows,
        ...stripeListValues(lists),
      }
    }
    case 'variable-block': {
      const blocks = plan as VariableBlockPlanData | undefined
      return {
        key_heads: blocks?.keyHeads ?? 1,
        plan_block_k: DENSE_SPAN,
        row_items: rowItemCount(frame, blocks?.queryBlocks ?? 1),
        query_blocks: blocks?.queryBlocks ?? 1,
        key_blocks: blocks?.keyBlocks ?? 1,
        plan_words: Math.ceil((blocks?.keyBlocks ?? Math.ceil(frame.keyLength / DENSE_SPAN)) / 32),
      }
    }
  }
}

/** What one dispatch computes, at most. */
interface DispatchRange {
  /** Of the rows of blocks, or of the pieces. */
  readonly first: number
  /** `row_blocks` of the uniforms. */
  readonly rowBlocks: number
  readonly workgroups: Dispatch['workgroups']
  readonly cost: Cost
}

/** Cuts the pieces likewise: one computes a whole row of blocks at most. */
function pieceRanges(
  frame: AttentionFrame,
  rows: number,
  rowBlocks: number,
  count: number,
  operationsPerDispatch: number,
): DispatchRange[] {
  const all = attendCost(frame, rows, 0, rowBlocks)
  const ofRow = 4 * rows * frame.keyLength * frame.headDim
  const most = Math.max(1, Math.min(65535, Math.floor(operationsPerDispatch / ofRow)))
  const dispatches = Math.ceil(count / most)
  const share = Math.ceil(count / dispatches)
  return Array.from({ length: dispatches }, (_, i) => ({
    first: i * share,
    rowBlocks,
    workgroups: [Math.min(share, count - i * share), 1, 1],
    cost: { operations: all.operations / dispatches, bytes: all.bytes / dispatches },
  }))
}

/**
 * Cuts the query rows so that a dispatch stays below the watchdog's patience, were the plan dense. As few as that allows,
 * and all with about as much to do: a small one at the end would leave a large GPU idle.
 */
function rowRanges(
  frame: AttentionFrame,
  rows: number,
  rowBlocks: number,
  operationsPerDispatch: number,
): DispatchRange[] {
  /** Ends of dispatches, from the last row on; the n-th stops where n shares are done. */
  const cut = (share: number): number[] => {
    const ends = [rowBlocks]
    while (ends[ends.length - 1]! > 0) {
      const end = ends[ends.length - 1]!
      let first = end - 1
      const more = () =>
        operations(frame, rows, first, rowBlocks) < share * ends.length &&
        operations(frame, rows, first - 1, end) <= operationsPerDispatch
      while (first > 0 && end - first < 65535 && more()) first--
      ends.push(first)
    }
    return ends
  }
  const fewest = cut(Number.POSITIVE_INFINITY).length - 1
  const ends = cut(operations(frame, rows, 0, rowBlocks) / fewest)
  return ends.slice(1).map((first, i) => ({
    first,
    rowBlocks: ends[i]! - first,
    workgroups: [ends[i]! - first, frame.queryHeads, frame.batch],
    cost: attendCost(frame, rows, first, ends[i]!),
  }))
}

/** Query rows in row blocks [first, end). Of variable blocks there are more than rows fill. */
function rowsIn(frame: AttentionFrame, rowsPerBlock: number, first: number, end: number): number {
  return Math.max(0, Math.min(end * rowsPerBlock, frame.queryLength) - first * rowsPerBlock)
}

/** Operations of row blocks [first, end) if nothing is skipped. */
function operations(frame: AttentionFrame, rowsPerBlock: number, first: number, end: number): number {
  const rows = rowsIn(frame, rowsPerBlock, first, end)
  const offset = frame.keyLength - frame.queryLength
  const middle = first * rowsPerBlock + rows / 2 + offset
  const keys = frame.causal ? Math.min(frame.keyLength, Math.max(1, middle)) : frame.keyLength
  return 4 * frame.batch * frame.queryHeads * rows * keys * frame.headDim
}

/** Of row blocks [first, end) if nothing is skipped. */
function attendCost(frame: AttentionFrame, rowsPerBlock: number, first: number, end: number): Cost {
  const rows = rowsIn(frame, rowsPerBlock, first, end)
  const elements = frame.batch * frame.headDim * 2 * (frame.queryHeads * rows + frame.kvHeads * frame.keyLength)
  return {
    operations: operations(frame, rowsPerBlock, first, end),
    bytes: elements * bytesPerElement[frame.q.dtype] + frame.batch * frame.queryHeads * rows * 4,
  }
}

function attend(
  runtime: Runtime,
  { kernel }: CompiledFlash,
  frame: AttentionFrame,
  { first, rowBlocks, workgroups, cost }: DispatchRange,
  fields: UniformFields,
  values: Record<string, number>,
  dense: boolean,
  planSlices: readonly BufferSlice[],
): Dispatch {
  const q = bindTensor(frame.q)
  const k = bindTensor(frame.k)
  const v = bindTensor(frame.v)
  const out = bindTensor(frame.out)
  const uniforms = packUniforms(fields, {
    ...attentionCallValues(frame, { q, k, v }, dense),
    ...addressValues('out', out),
    first_row_block: first,
    row_blocks: rowBlocks,
    ...values,
  } as Record<string, number>)
  return {
    kernel,
    bindings: [
      runtime.uniforms.get(uniforms),
      q.slice,
      k.slice,
      v.slice,
      out.slice,
      bindContiguous(frame.lse),
      ...planSlices,
    ],
    workgroups,
    cost,
  }
}
