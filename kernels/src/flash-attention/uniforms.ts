import { attentionCallUniforms } from '../shared/attention-call.js'
import { addressFields } from '../shared/uniforms.js'

/** Uniforms that every form of the kernel starts with; those of its walk and of the skip follow. */
export const flashAttentionUniforms = {
  ...attentionCallUniforms,
  ...addressFields('out'),
  /** Of the dispatch; with `pieces`, its first piece. */
  first_row_block: 'u32',
  /** Of the dispatch; with `pieces`, of a head. */
  row_blocks: 'u32',
} as const

/** Uniforms of kernels with `votes`. */
export const voteUniforms = {
  /** A block is needed when the largest score of some row exceeds that row's maximum before it plus this. Base 2, at most 0. */
  vote_threshold: 'f32',
  /** 0: nobody asked for votes. */
  vote: 'u32',
} as const

/** Uniforms of kernels with `skip`. */
export const skipUniforms = {
  /** A tile is kept when the largest score of some row exceeds that row's running maximum plus this. Base 2, negative. */
  skip_threshold: 'f32',
  /** 1: tiles that are not kept are left out at once; 0: they are computed all the same, and only marked. */
  skip_now: 'u32',
  kept_words: 'u32',
} as const
