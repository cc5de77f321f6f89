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
import { emitSplitAttention, splitAttentionUniforms, splitTiling } from './emit.js'

/** Workgroups that fill a large GPU, and the spans between which a split pays for its merge. */
const TARGET_WORKGROUPS = 768
const MIN_SPAN = 128
const MAX_SPAN = 2048

/**
 * Compiles attention of few queries over many keys, dense or over a stripe plan (tokens, pages) with one block of queries:
 * each workgroup attends over a span of the keys for all query heads that share them, then the parts are merged.
 * Flash-Decoding (Dao, Haziza, Massa, Sizov 2023). Any query length works; from about 16 rows on flash attention is faster.
 *
 * Cost: 4 · B · Hq · Lq · keys · D operations; k and v once in bytes for each list and 8 rows (4 without subgroups).
 *
 * @throws UNSUPPORTED from the returned function, for plans of blocks or of several blocks of queries
 */
export async function splitAttention(runtime: Runtime, config: Required<AttentionConfig>): Promise<Attend> {
  const { dtype, headDim, causal } = config
  const options = {
    dtype,
    headDim,
    causal,
    ...(runtime.tier !== 'portable' && { subgroupSize: runtime.subgroupMinSize }),
  }
  const { rows: rowsPerWorkgroup } = splitTiling(options)
  const [kernel, merge] = await Promise.all([
    runtime.kernel(emitSplitAttention(options)),
    mergeAttention(runtime, { dtype, headDim }, 'max-sum'),
  ])
  return (frame, plan) => {
    const stripes = stripePlan(plan, frame)
    const listHeads = stripes?.heads ?? frame.kvHeads
    const headsPerList = frame.queryHeads / listHeads
    const rowChunks = Math.ceil((headsPerList * frame.queryLength) / rowsPerWorkgroup)
    const lists = stripes?.lists ?? [{ width: 1, capacity: frame.keyLength }]
    // Stripes are disjoint, so they hold the keys at most once, and one of each list may reach past the last.
    const positions = Math.min(
      lists.reduce((sum, { width }) => sum + width - 1, frame.keyLength),
      lists.reduce((sum, { width, capacity }) => sum + width * capacity, 0),
    )
    const workgroupRows = listHeads * frame.batch * rowChunks
    const span = clamp(Math.ceil((positions * workgroupRows) / TARGET_WORKGROUPS), MIN_SPAN, MAX_SPAN)
    const splits = Math.ceil(positions / span)
    const q = bindTensor(frame.q)
    const k = bindTensor(frame.k)
    const v = bindTensor(frame.v)
    const queryRows = frame.batch * frame.queryHeads * frame.queryLength
    const parts = {
      count: splits,
      out: frame.scratch(splits * queryRows * headDim * 4),
      statistics: frame.scratch(splits * queryRows * 8),
    }
    const uniforms = packUniforms(splitAttentionUniforms, {
      ...attentionCallValues(frame, { q, k, v }, stripes === undefined),
      span,
      heads_per_list: headsPerList,
      row_chunks: rowChunks,
      batch: frame.batch,
      list_heads: listHeads,
      ...stripeListValues(lists),
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

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value))
}
