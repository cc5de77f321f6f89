import type {
  AttentionConfig,
  AttentionFrame,
  BufferSlice,
  Cost,
  Dispatch,
  Kernel,
  PlanData,
  Runtime,
} from '@sparse-attention/core'
import { blockGrid, bytesPerElement } from '@sparse-attention/core'
import { bindContiguous, bindTensor } from '../shared/bind.js'
import { addressValues, packUniforms } from '../shared/uniforms.js'
import { emitFlashAttention, flashAttentionUniforms, ROWS } from './emit.js'

/** Attends over any plan: records dispatches that write every element of `frame.out` and `frame.lse`. */
export type Attend = (frame: AttentionFrame, plan: PlanData) => readonly Dispatch[]

/**
 * Compiles flash attention, dense and over block plans whose block_q is a multiple of 64 and block_k of 16.
 *
 * Cost, dense: 4 · B · Hq · (visible pairs) · D operations; q, k, v and out once in bytes.
 */
export async function flashAttention(runtime: Runtime, config: Required<AttentionConfig>): Promise<Attend> {
  const { dtype, headDim, causal } = config
  const kernel = await runtime.kernel(emitFlashAttention({ dtype, headDim, causal }))
  return (frame, plan) => {
    // A dense call reads no plan, but the binding must be filled.
    const bitmap = plan.kind === 'block' ? plan.bitmap : frame.scratch(16)
    return rowRanges(frame, runtime.work.operationsPerDispatch).map((range) =>
      attendRows(runtime, kernel, frame, plan, bitmap, range),
    )
  }
}

/** Keys per step of a dense walk: any multiple of the tiles will do. */
const DENSE_SPAN = 1024

interface RowRange {
  readonly firstRowBlock: number
  readonly rowBlocks: number
}

/** Cuts the query rows so that a dispatch stays below the watchdog's patience, were the plan dense. */
function rowRanges(frame: AttentionFrame, operationsPerDispatch: number): RowRange[] {
  const total = Math.ceil(frame.queryLength / ROWS)
  const ranges: RowRange[] = []
  let end = total
  while (end > 0) {
    let first = end - 1
    while (first > 0 && end - first < 65535 && operations(frame, first - 1, end) <= operationsPerDispatch) first--
    ranges.push({ firstRowBlock: first, rowBlocks: end - first })
    end = first
  }
  return ranges
}

/** Operations of row blocks [first, end) if nothing is skipped. */
function operations(frame: AttentionFrame, first: number, end: number): number {
  const rows = Math.min(end * ROWS, frame.queryLength) - first * ROWS
  const offset = frame.keyLength - frame.queryLength
  const middle = first * ROWS + rows / 2 + offset
  const keys = frame.causal ? Math.min(frame.keyLength, Math.max(1, middle)) : frame.keyLength
  return 4 * frame.batch * frame.queryHeads * rows * keys * frame.headDim
}

function attendRows(
  runtime: Runtime,
  kernel: Kernel,
  frame: AttentionFrame,
  plan: PlanData,
  bitmap: BufferSlice,
  { firstRowBlock, rowBlocks }: RowRange,
): Dispatch {
  const q = bindTensor(frame.q)
  const k = bindTensor(frame.k)
  const v = bindTensor(frame.v)
  const out = bindTensor(frame.out)
  const blocks = plan.kind === 'block' ? plan : { ...frame, blockQ: ROWS, blockK: DENSE_SPAN }
  const grid = blockGrid(blocks)
  const uniforms = packUniforms(flashAttentionUniforms, {
    ...addressValues('q', q),
    ...addressValues('k', k),
    ...addressValues('v', v),
    ...addressValues('out', out),
    query_heads: frame.queryHeads,
    group_size: frame.queryHeads / frame.kvHeads,
    query_length: frame.queryLength,
    key_length: frame.keyLength,
    query_offset: frame.keyLength - frame.queryLength,
    scale: frame.scale * Math.LOG2E,
    first_row_block: firstRowBlock,
    row_blocks: rowBlocks,
    dense: plan.kind === 'dense' ? 1 : 0,
    plan_block_q: blocks.blockQ,
    plan_block_k: blocks.blockK,
    plan_rows: grid.queryBlocks,
    plan_words: grid.wordsPerRow,
  })
  const rows = Math.min((firstRowBlock + rowBlocks) * ROWS, frame.queryLength) - firstRowBlock * ROWS
  const elements = frame.batch * frame.headDim * 2 * (frame.queryHeads * rows + frame.kvHeads * frame.keyLength)
  const cost: Cost = {
    operations: operations(frame, firstRowBlock, firstRowBlock + rowBlocks),
    bytes: elements * bytesPerElement[frame.q.dtype] + frame.batch * frame.queryHeads * rows * 4,
  }
  return {
    kernel,
    bindings: [runtime.uniforms.get(uniforms), q.slice, k.slice, v.slice, out.slice, bindContiguous(frame.lse), bitmap],
    workgroups: [rowBlocks, frame.queryHeads, frame.batch],
    cost,
  }
}
