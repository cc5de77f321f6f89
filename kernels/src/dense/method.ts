import { defineMethod, type MethodFactory } from '@sparse-attention/core'
import { flashAttention } from '../flash-attention/flash-attention.js'

/** Exact attention: every visible key. The baseline that sparse methods are measured against. */
export const dense: MethodFactory<Record<never, never>> = defineMethod<Record<never, never>>({
  id: 'dense',
  title: 'Dense attention',
  phase: 'any',
  summary: 'Exact attention over every visible key, by the same flash kernel that sparse plans run on.',
  citation: {
    title: 'FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning',
    authors: 'Dao',
    year: 2023,
    arxiv: '2307.08691',
    url: 'https://arxiv.org/abs/2307.08691',
  },
  options: {},
  capabilities: {
    causal: [true, false],
    queryLength: 'any',
    dtypes: ['f32', 'f16'],
    headDim: { multipleOf: 8, max: 256 },
  },
  neutral: {},
  scaled: () => ({}),
  async create(runtime, config) {
    const attend = await flashAttention(runtime, config)
    return { plan: () => ({ plan: { kind: 'dense' }, dispatches: [] }), attend, dispose() {} }
  },
})
