import type { AttentionFrame } from '@sparse-attention/core'
import type { BoundTensor } from './bind.js'
import { addressFields, addressValues } from './uniforms.js'

/** What a kernel that attends knows of a call. */
export const attentionCallUniforms = {
  ...addressFields('q'),
  ...addressFields('k'),
  ...addressFields('v'),
  query_heads: 'u32',
  group_size: 'u32',
  query_length: 'u32',
  key_length: 'u32',
  /** key_length − query_length: query i sees keys j ≤ i + query_offset. */
  query_offset: 'i32',
  /** scale · log2(e): scores are in base 2. */
  scale: 'f32',
  /** 1: every key is computed and the plan is not read. */
  dense: 'u32',
} as const

export function attentionCallValues(
  frame: AttentionFrame,
  { q, k, v }: Readonly<Record<'q' | 'k' | 'v', BoundTensor>>,
  dense: boolean,
): Record<keyof typeof attentionCallUniforms, number> {
  return {
    ...addressValues('q', q),
    ...addressValues('k', k),
    ...addressValues('v', v),
    query_heads: frame.queryHeads,
    group_size: frame.queryHeads / frame.kvHeads,
    query_length: frame.queryLength,
    key_length: frame.keyLength,
    query_offset: frame.keyLength - frame.queryLength,
    scale: frame.scale * Math.LOG2E,
    dense: dense ? 1 : 0,
  }
}
