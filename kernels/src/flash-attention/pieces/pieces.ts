import {
  type AttentionFrame,
  type BlockPlanData,
  type BufferSlice,
  blockGrid,
  type Dispatch,
  type Runtime,
} from '@sparse-attention/core'
import { bindContiguous, bindTensor } from '../../shared/bind.js'
import { addressValues, packUniforms } from '../../shared/uniforms.js'
import {
  CUT_PIECES,
  emitRowLengths,
  emitRowPieces,
  LENGTH_LANES,
  PIECES,
  rowLengthsUniforms,
  rowPiecesUniforms,
} from './emit.js'
import { emitMergePieces, MERGE_LANES, mergePiecesUniforms } from './merge.js'

/** Keys that a piece of a row has at least: below, its part of the output costs more than it saves. */
const LEAST_KEYS = 1024

/** The work of a plan in pieces of about one size, for kernels that compute one piece a workgroup. */
export interface Pieces {
  /** u32[count, 4]: row of blocks, first key block, end key block, slot; a row of 0xffffffff is no piece. */
  readonly pieces: BufferSlice
  readonly count: number
  /** f16 [slots, rows, head_dim + 8]: what pieces with a slot write instead of the output, and behind it their LSE. */
  readonly parts: BufferSlice
  /** Make `pieces`. */
  readonly before: readonly Dispatch[]
  /** Writes the output and the LSE of rows that were cut. */
  readonly after: Dispatch
}

export type RowPieces = (frame: AttentionFrame, plan: BlockPlanData) => Pieces

/**
 * Compiles the balancing of block plans: without it, a plan whose rows differ in length takes as long as its longest row.
 * Rows that hold more than 1/256 of all the work are cut (as split-KV does in FlashInfer, arXiv 2501.01005, §3.3), and all
 * pieces are put in order, long ones first.
 *
 * Cost: the plan is read once, and the outputs of cut rows, at most 512 blocks of rows, are written and read once more.
 *
 * @param rows query rows of a workgroup; divides the plan's block_q
 */
export async function rowPieces(runtime: Runtime, headDim: number, rows: number): Promise<RowPieces> {
  const [measure, cut, merge] = await Promise.all([
    runtime.kernel(emitRowLengths()),
    runtime.kernel(emitRowPieces()),
    runtime.kernel(emitMergePieces(headDim, rows)),
  ])
  return (frame, plan) => {
    const { batch, queryHeads, queryLength, keyLength } = frame
    const { queryBlocks, keyBlocks, wordsPerRow } = blockGrid(plan)
    const rowBlocks = Math.ceil(queryLength / rows)
    const blocks = batch * queryHeads * rowBlocks
    const count = blocks + CUT_PIECES
    const lengths = frame.scratch(blocks * 4)
    const pieces = frame.scratch(count * 16)
    const cuts = frame.scratch(PIECES * 16)
    const units = headDim / 8
    const parts = frame.scratch(CUT_PIECES * rows * (units + 1) * 16)
    const out = bindTensor(frame.out)
    const grid = {
      rows: blocks,
      row_blocks: rowBlocks,
      block_rows: rows,
      plan_block_q: plan.blockQ,
      plan_rows: queryBlocks,
      plan_words: wordsPerRow,
    }
    const measuring = packUniforms(rowLengthsUniforms, {
      ...grid,
      plan_block_k: plan.blockK,
      query_length: queryLength,
      key_length: keyLength,
      query_offset: keyLength - queryLength,
      causal: frame.causal ? 1 : 0,
    })
    const cutting = packUniforms(rowPiecesUniforms, {
      ...grid,
      key_blocks: keyBlocks,
      least: Math.ceil(LEAST_KEYS / plan.blockK),
      capacity: count,
    })
    const merging = packUniforms(mergePiecesUniforms, {
      ...addressValues('out', out),
      query_heads: queryHeads,
      query_length: queryLength,
      row_blocks: rowBlocks,
    })
    const planBytes = blocks * wordsPerRow * 4
    return {
      pieces,
      count,
      parts,
      before: [
        {
          kernel: measure,
          bindings: [runtime.uniforms.get(measuring), plan.bitmap, lengths],
          workgroups: [Math.ceil(blocks / LENGTH_LANES), 1, 1],
          cost: { operations: blocks * wordsPerRow, bytes: planBytes + blocks * 4 },
        },
        {
          kernel: cut,
          bindings: [runtime.uniforms.get(cutting), plan.bitmap, lengths, pieces, cuts],
          workgroups: [1, 1, 1],
          cost: { operations: 8 * blocks, bytes: blocks * 4 + count * 16 },
        },
      ],
      after: {
        kernel: merge,
        bindings: [runtime.uniforms.get(merging), cuts, parts, out.slice, bindContiguous(frame.lse)],
        workgroups: [Math.ceil((rows * units) / MERGE_LANES), PIECES, 1],
        // How many rows are cut is known to the GPU alone: none, in a plan of even rows.
        cost: { operations: PIECES, bytes: PIECES * 16 },
      },
    }
  }
}
