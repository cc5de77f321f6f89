import {
  type AttentionConfig,
  type AttentionFrame,
  bytesPerElement,
  type Dispatch,
  type PlanData,
  type Runtime,
  SparseAttentionError,
  type StripePlanData,
} from '@sparse-attention/core'
import type { Attend } from '../flash-attention/flash-attention.js'
import { mergeAttention } from '../merge-attention/merge-attention.js'
import { attentionCallValues } from '../shared/attention-call.js'
import { bindTensor } from '../shared/bind.js'
import { stripeListValues } from '../shared/stripe-lists.js'
import { packUniforms } from '../shared/uniforms.js'
import { emitSplitAttention, type SplitAttentionOptions, splitAttentionUniforms } from './emit.js'
import { checkPageSize, checkPages, type PagedAttend, type PagedOptions, type PageTable } from './paged.js'
import { MIN_SPAN, splitTiling } from './tiling.js'

/** Workgroups that fill a large GPU: more would only be more to merge. */
const TARGET_WORKGROUPS = 528

/** Times as many where sequences differ in length, so that a long one among short ones does not wait for itself. */
const UNEVEN = 4

/**
 * Compiles attention of few queries over many keys, dense or over a stripe plan (tokens, pages) with one block of queries:
 * each workgroup attends over a span of the keys for all query heads that share them, then the parts are merged.
 * Flash-Decoding (Dao, Haziza, Massa, Sizov 2023). Any query length works; from about 16 rows on flash attention is faster.
 *
 * Cost: 4 · B · Hq · Lq · keys · D operations; k and v once in bytes for each list and 4 rows (8 of f32 with subgroups;
 * caches hold what comes again).
 *
 * @param options  given: keys and values are read through a page table
 *
 * @throws INVALID_ARGUMENT for another page size
 * @throws UNSUPPORTED from the returned function, for plans of blocks or of several blocks of queries
 * @throws INVALID_SHAPE, BUFFER_TOO_SMALL from the returned function, for pools or a page table of another shape
 */
export function splitAttention(runtime: Runtime, config: Required<AttentionConfig>): Promise<Attend>
export function splitAttention(
  runtime: Runtime,
  config: Required<AttentionConfig>,
  options: PagedOptions,
): Promise<PagedAttend>
export async function splitAttention(
  runtime: Runtime,
  config: Required<AttentionConfig>,
  paged?: PagedOptions,
): Promise<(frame: AttentionFrame, plan: PlanData, pages?: PageTable) => readonly Dispatch[]> {
  if (paged) checkPageSize(paged.pageSize)
  const { dtype, headDim, causal } = config
  const subgroupSize = runtime.tier === 'portable' ? undefined : runtime.subgroupMinSize
  const options = { dtype, headDim, causal, ...paged, ...(subgroupSize !== undefined && { subgroupSize }) }
  const [kernels, merge] = await Promise.all([
    Promise.all(
      splitForms(runtime, config).map(async (form) => ({
        ...form,
        kernel: await runtime.kernel(emitSplitAttention({ ...options, ...form })),
      })),
    ),
    mergeAttention(runtime, { dtype, headDim }, 'max-sum'),
  ])
  return (frame, plan, pages) => {
    if (paged) checkPages(frame, paged, pages)
    const stripes = stripePlan(plan, frame)
    const listHeads = stripes?.heads ?? frame.kvHeads
    const headsPerList = frame.queryHeads / listHeads
    const listRows = headsPerList * frame.queryLength
    const { kernel, rows } = chooseForm(kernels, frame.queryLength, listRows)
    const rowChunks = Math.ceil(listRows / rows)
    const lists = stripes?.lists ?? [{ width: 1, capacity: frame.keyLength }]
    // Stripes are disjoint, so they hold the keys at most once, and one of each list may reach past the last.
    const positions = Math.min(
      lists.reduce((sum, { width }) => sum + width - 1, frame.keyLength),
      lists.reduce((sum, { width, capacity }) => sum + width * capacity, 0),
    )
    const target = TARGET_WORKGROUPS * (pages ? Math.min(frame.batch, UNEVEN) : 1)
    const splits = clamp(
      Math.floor(target / (listHeads * frame.batch * rowChunks)),
      1,
      Math.max(1, Math.ceil(positions / MIN_SPAN)),
    )
    const q = bindTensor(frame.q)
    const k = bindTensor(frame.k)
    const v = bindTensor(frame.v)
    const queryRows = frame.batch * frame.queryHeads * frame.queryLength
    const parts = {
      count: splits,
      out: frame.scratch(splits * queryRows * headDim * 4),
      statistics: frame.scratch(splits * queryRows * 8),
    }
    // Of sequences in pages the table says how long they are: uniforms that stay the same need no new buffer at each token.
    const most = pages && paged ? pages.width * paged.pageSize : frame.keyLength
    const uniforms = packUniforms(splitAttentionUniforms, {
      ...attentionCallValues({ ...frame, keyLength: most }, { q, k, v }, stripes === undefined),
      heads_per_list: headsPerList,
      row_chunks: rowChunks,
      batch: frame.batch,
      list_heads: listHeads,
      ...stripeListValues(stripes ? lists : [{ width: 1, capacity: most }]),
      table_width: pages?.width ?? 0,
    })
    const attend: Dispatch = {
      kernel,
      bindings: [
        runtime.uniforms.get(uniforms),
        q.slice,
        k.slice,
        v.slice,
        // A dense call reads no lists, but the bindings must be filled.
        stripes?.counts ?? frame.scratch(16),
        stripes?.indices ?? frame.scratch(16),
        parts.out,
        parts.statistics,
        ...(pages ? [pages.table] : []),
      ],
      workgroups: [splits, listHeads, frame.batch * rowChunks],
      cost: {
        operations: 4 * queryRows * positions * headDim,
        bytes:
          2 * frame.batch * listHeads * positions * headDim * bytesPerElement[dtype] +
          queryRows * (headDim * bytesPerElement[dtype] + splits * (4 * headDim + 8)),
      },
    }
    return [attend, merge(parts, frame.out, frame.lse)]
  }
}

function stripePlan(plan: PlanData, frame: AttentionFrame): StripePlanData | undefined {
  if (plan.kind === 'dense') return undefined
  if (plan.kind === 'stripe' && plan.blockQ >= frame.queryLength && plan.heads % frame.kvHeads === 0) return plan
  throw new SparseAttentionError('UNSUPPORTED', {
    message: `Split attention was given a plan of kind '${plan.kind}' for ${frame.queryLength} queries.`,
    fix: 'Use a stripe plan with one block of queries and at least as many heads as there are KV heads, or flash attention.',
    where: 'plan',
  })
}

/** What is compiled: on GPUs a kernel for the rows of one query, of one head too, and one for several queries. */
function splitForms(
  runtime: Runtime,
  { dtype, headDim, queryHeads, kvHeads }: Required<AttentionConfig>,
): Pick<SplitAttentionOptions, 'rows' | 'singleQuery' | 'unroll'>[] {
  const subgroupSize = runtime.tier === 'portable' ? undefined : runtime.subgroupMinSize
  const { maxRows } = splitTiling(dtype, headDim, subgroupSize)
  const several = { rows: maxRows, singleQuery: false, unroll: !runtime.software }
  if (runtime.software) return [several]
  const group = queryHeads / kvHeads
  // Powers of two, whose weights the lanes of a key can share out.
  const ofGroup = Math.min(maxRows, 2 ** Math.ceil(Math.log2(group)))
  return [...[...new Set([1, ofGroup])].map((rows) => ({ rows, singleQuery: true, unroll: true })), several]
}

/** The kernel with the fewest rows that takes all at once, else the one that takes most. */
function chooseForm<Form extends Pick<SplitAttentionOptions, 'rows' | 'singleQuery'>>(
  forms: readonly Form[],
  queryLength: number,
  rows: number,
): Form {
  const fit = forms.filter((form) => !form.singleQuery || queryLength === 1)
  const enough = fit.filter((form) => form.rows >= rows)
  return enough.length > 0
    ? enough.reduce((a, b) => (b.rows < a.rows ? b : a))
    : fit.reduce((a, b) => (b.rows > a.rows ? b : a))
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value))
}
