import {
  type AttentionConfig,
  type AttentionFrame,
  type BufferSlice,
  bytesPerElement,
  type Dispatch,
  type Runtime,
} from '@sparse-attention/core'
import { sampledScores } from '../sampled-scores/sampled-scores.js'
import { bindTensor } from '../shared/bind.js'
import { checkInteger, checkWords } from '../shared/check.js'
import { headRanges } from '../shared/sampled-rows.js'
import { addressValues, packUniforms } from '../shared/uniforms.js'
import { emitHeadErrors, emitHeadOrders, headErrorsUniforms, headOrdersUniforms, ORDER_TOKENS } from './emit.js'

/** Scores kept in scratch at once. */
const SCORE_BYTES = 128 * 2 ** 20

/** Tokens of a video lie frame after frame; text behind them. */
export interface VideoTokens {
  readonly frames: number
  /** Tokens of a frame. */
  readonly frameLength: number
}

export interface HeadMasks {
  /** Tokens of a block. */
  readonly block: number
  /** Blocks are kept that lie less than so many off the diagonal. At least 1. */
  readonly reach: number
}

/**
 * @param rows  i32 [count]: tokens of the video
 * @param order i32 [B·Hq, L], written: for `permuteRows`
 */
export type HeadProfile = (
  frame: AttentionFrame,
  video: VideoTokens,
  masks: HeadMasks,
  rows: { readonly count: number; readonly indices: BufferSlice },
  order: BufferSlice,
) => readonly Dispatch[]

/**
 * Tells spatial heads from temporal ones (Sparse VideoGen, arXiv 2502.01776, §4.1): computes the outputs of sampled rows over all
 * keys, over those of near frames and over those of near places; a head is temporal if the last ones are closer, which is
 * decided by the sum of squares, ties going to spatial. Gives the order of each head's tokens in which the keys that matter lie
 * near the diagonal: as they are, or place after place.
 *
 * Cost: 2 · B · Hq · rows · L · D operations for the scores and three times as many for the outputs; k read once, v once a row
 * from the cache, scores four times.
 *
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL
 */
export async function headProfile(
  runtime: Runtime,
  config: Pick<AttentionConfig, 'dtype' | 'headDim'>,
): Promise<HeadProfile> {
  const [score, errorsKernel, ordersKernel] = await Promise.all([
    sampledScores(runtime, { ...config, causal: false }, 'given'),
    runtime.kernel(emitHeadErrors(config)),
    runtime.kernel(emitHeadOrders()),
  ])
  return (frame, { frames, frameLength }, { block, reach }, rows, order) => {
    const { batch, queryHeads, kvHeads, keyLength, headDim } = frame
    checkInteger('frames', frames, 1, keyLength)
    checkInteger('frameLength', frameLength, 1, Math.floor(keyLength / frames))
    checkInteger('block', block, 1, 2 ** 31)
    checkInteger('reach', reach, 1, 2 ** 31)
    const heads = batch * queryHeads
    checkWords('order', order, heads * keyLength)
    const bytesPerHead = rows.count * keyLength * 4
    const ranges = headRanges(heads, bytesPerHead, SCORE_BYTES)
    const scores = frame.scratch(ranges[0]!.count * bytesPerHead)
    const errors = frame.scratch(heads * rows.count * 8)
    const v = bindTensor(frame.v)
    const tokens = { frames, frame_length: frameLength, key_length: keyLength }
    const profile = ranges.flatMap((range): Dispatch[] => {
      const uniforms = packUniforms(headErrorsUniforms, {
        ...addressValues('v', v),
        ...tokens,
        query_heads: queryHeads,
        group_size: queryHeads / kvHeads,
        rows: rows.count,
        first_head: range.first,
        block,
        reach,
      })
      const cells = range.count * rows.count * keyLength
      return [
        score(frame, rows, range, scores),
        {
          kernel: errorsKernel,
          bindings: [runtime.uniforms.get(uniforms), scores, rows.indices, v.slice, errors],
          workgroups: [rows.count, range.count, 1],
          cost: {
            operations: 6 * cells * headDim,
            bytes: 8 * cells + range.count * keyLength * headDim * bytesPerElement[config.dtype],
          },
        },
      ]
    })
    const uniforms = packUniforms(headOrdersUniforms, { ...tokens, rows: rows.count })
    const arrange: Dispatch = {
      kernel: ordersKernel,
      bindings: [runtime.uniforms.get(uniforms), errors, order],
      workgroups: [Math.ceil(keyLength / ORDER_TOKENS), heads, 1],
      cost: { operations: 0, bytes: 4 * heads * keyLength },
    }
    return [...profile, arrange]
  }
}
