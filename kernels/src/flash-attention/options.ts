import type { DType } from '@sparse-attention/core'
import { attentionCallUniforms } from '../shared/attention-call.js'
import { addressFields } from '../shared/uniforms.js'
import type { WalkedPlan } from './walk.js'

/** What is compiled into a flash attention kernel. */
export interface FlashAttentionOptions {
  readonly dtype: DType
  /** Multiple of 8, at most 256. */
  readonly headDim: number
  readonly causal: boolean
  readonly plan: WalkedPlan
  /** Decide for each tile from its largest score whether its values are worth reading. Only with a block plan. */
  readonly skip?: boolean
  /** Compute the pieces that a plan's rows were cut into, one a workgroup. Only with a block plan, on matrices. */
  readonly pieces?: boolean
}

/** Query rows per workgroup. Plan blocks are multiples of it. */
export const ROWS = 64

/** Uniforms that every form of the kernel starts with; those of its walk and of the skip follow. */
export const flashAttentionUniforms = {
  ...attentionCallUniforms,
  ...addressFields('out'),
  /** Of the dispatch; with `pieces`, its first piece. */
  first_row_block: 'u32',
  /** Of the dispatch; with `pieces`, of a head. */
  row_blocks: 'u32',
} as const

/** Uniforms of kernels with `skip`. */
export const skipUniforms = {
  /** A tile is kept when the largest score of some row exceeds that row's running maximum plus this. Base 2, negative. */
  skip_threshold: 'f32',
  /** 1: tiles that are not kept are left out at once; 0: they are computed all the same, and only marked. */
  skip_now: 'u32',
  kept_words: 'u32',
} as const
