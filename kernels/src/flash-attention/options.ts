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
  /** Compute the pieces that a plan's rows were cut into, one a workgroup. Only with a block plan, on matrices. */
  readonly pieces?: boolean
}

/** Query rows per workgroup. Plan blocks are multiples of it. */
export const ROWS = 64
