import {
  type AttentionFrame,
  type BufferSlice,
  type CompiledConfig,
  type Dispatch,
  type KeyPages,
  type Runtime,
  SparseAttentionError,
  type StripePlanData,
} from '@sparse-attention/core'
import {
  listedScores,
  listTokens,
  pageScores,
  pruneTopP,
  type ScoredHeads,
  type SelectedLists,
  type SelectPages,
  selectPages,
} from '@sparse-attention/kernels'
import { type PageMetadata, pageBounds, quantizedKeys } from '../kv-cache/metadata.js'

/** What has been selected, and the dispatches that do it. */
export interface Selection {
  readonly lists: SelectedLists
  /** Tokens of an entry: a page's, or 1. */
  readonly width: number
  readonly dispatches: readonly Dispatch[]
}

/** Chooses pages for one query of each head, from what is known of them. The last page of a sequence is always among them. */
export interface PageSelector {
  /** What it reads. */
  readonly metadata: readonly PageMetadata[]
  /** Nothing would be left out: every sequence is at most this long. */
  keepsAll(frame: AttentionFrame): boolean
  select(frame: AttentionFrame, pages: KeyPages): Selection
}

/** Leaves out some of the tokens that a selector has chosen. */
export type Pruner = (frame: AttentionFrame, pages: KeyPages, selection: Selection, layer: number) => Selection

type Config = Pick<CompiledConfig, 'dtype' | 'headDim' | 'queryHeads' | 'kvHeads'>

/** Pages that are kept whatever their score: the first, where sinks are, and the last, where the query's own token is. */
const SINK_PAGES = 1

/**
 * Quest (arXiv 2406.10774, §3.3): the pages whose bounds allow the largest scores, the first and the last counted.
 *
 * @param heads 'sum': one list for the query heads of a KV head, by the sum of their scores; 'separate': a list each, the paper's
 */
export async function questSelector(
  runtime: Runtime,
  config: Config,
  {
    pageSize,
    tokenBudget,
    heads,
  }: { readonly pageSize: number; readonly tokenBudget: number; readonly heads: ScoredHeads },
): Promise<PageSelector> {
  const [scores, select] = await Promise.all([pageScores(runtime, config, heads), selectPages(runtime, SINK_PAGES)])
  const topK = Math.max(SINK_PAGES + 1, Math.ceil(tokenBudget / pageSize))
  return {
    metadata: [pageBounds],
    keepsAll: ({ keyLength }) => keyLength <= topK * pageSize,
    select(frame, pages) {
      const [bounds] = pages.metadata[pageBounds.name]!
      const { rows, dispatch } = scores(frame, pages, bounds!)
      const picked = select(frame, pages, rows, topK)
      return { lists: picked.lists, width: pageSize, dispatches: [dispatch, picked.dispatch] }
    },
  }
}

/** Every page: what a pruner is left to choose from. */
export async function everyPage(runtime: Runtime, { kvHeads }: Config): Promise<PageSelector> {
  const select: SelectPages = await selectPages(runtime, 0)
  return {
    metadata: [],
    keepsAll: () => true,
    select(frame, pages) {
      const { pageSize } = pages
      const count = Math.ceil(frame.keyLength / pageSize)
      // Where all pages are kept, no score is looked at.
      const rows = { heads: kvHeads, stride: 4, scores: frame.scratch(16) }
      const { lists, dispatch } = select(frame, pages, rows, count)
      return { lists, width: pageSize, dispatches: [dispatch] }
    },
  }
}

/** What attention is estimated from: keys in 4 or 8 bits, or the keys themselves. */
export type Estimate = 4 | 8 | 'exact'

/** What an estimate needs a pool to keep. */
export function estimateMetadata(estimate: Estimate): readonly PageMetadata[] {
  return estimate === 'exact' ? [] : [quantizedKeys(estimate)]
}

/**
 * Twilight's pruner (arXiv 2502.02770, §3): of the tokens of the selected pages, those that hold a share p of the estimated softmax
 * over them, for any query head of a KV head. The first page and the query's own token stay.
 *
 * @param topP f32 [layers · Hq], one p a head
 * @throws UNSUPPORTED from the returned function, for what is no list of pages for each KV head: tokens, or pages of query heads
 */
export async function topPPruner(
  runtime: Runtime,
  config: CompiledConfig,
  { estimate, topP }: { readonly estimate: Estimate; readonly topP: BufferSlice },
): Promise<Pruner> {
  const keys = estimate === 'exact' ? (config.pageSize === undefined ? 'tensor' : 'pages') : estimate
  const [score, prune, list] = await Promise.all([
    listedScores(runtime, config, keys),
    pruneTopP(runtime, SINK_PAGES),
    listTokens(runtime),
  ])
  return (frame, pages, { lists, width, dispatches }, layer) => {
    if (width !== pages.pageSize || lists.heads !== frame.kvHeads) throw notOfPages(width, lists.heads)
    const rows = frame.batch * frame.queryHeads
    const tokens = lists.capacity * pages.pageSize
    const scores = frame.scratch(rows * tokens * 4)
    const bits = frame.scratch(rows * Math.ceil(tokens / 32) * 4)
    const packed = estimate === 'exact' ? [] : pages.metadata[quantizedKeys(estimate).name]!
    const kept = list(frame, pages, lists, bits)
    return {
      lists: kept.lists,
      width: 1,
      dispatches: [
        ...dispatches,
        score(frame, pages, lists, scores, packed),
        prune(frame, pages, lists, scores, topP, layer, bits),
        kept.dispatch,
      ],
    }
  }
}

function notOfPages(width: number, heads: number): SparseAttentionError {
  return new SparseAttentionError('UNSUPPORTED', {
    message: `The selection has entries of ${width === 1 ? 'one token' : `${width} tokens`}, for ${heads} heads.`,
    fix: "Prune pages that are selected for KV heads, with `heads: 'sum'`, and only once.",
    where: 'selection',
  })
}

/** What is selected, as the plan that attention runs over. */
export function selectionPlan(frame: AttentionFrame, { lists, width }: Selection): StripePlanData {
  const { batch, queryHeads, queryLength, keyLength, causal } = frame
  const { heads, capacity, counts, indices } = lists
  return {
    kind: 'stripe',
    ...{ batch, queryHeads, queryLength, keyLength, causal, heads, counts, indices },
    blockQ: 64,
    lists: [{ width, capacity }],
  }
}
