import type { DType } from '@sparse-attention/core'
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
  /**
   * Query blocks vote on their key blocks, of so many keys: one that matters to none of their rows can be left out of a later
   * call. Only with a block plan, whose blocks have so many keys where votes are asked for.
   */
  readonly votes?: number
  /** Compute the pieces that a plan's rows were cut into, one a workgroup. Only with a block plan, on matrices. */
  readonly pieces?: boolean
}

/** Query rows per workgroup. Plan blocks are multiples of it. */
export const ROWS = 64
