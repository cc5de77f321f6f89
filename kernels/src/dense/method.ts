import { defineMethod, type MethodFactory, type OptionValue } from '@sparse-attention/core'
import { type Attend, flashAttention } from '../flash-attention/flash-attention.js'
import type { WalkedPlan } from '../flash-attention/walk.js'
import { splitAttention, splitQueryLength } from '../split-attention/split-attention.js'

export interface DenseOptions extends Readonly<Record<string, OptionValue>> {
  /** Kind of the plans that a caller may give: `dense` over a given plan is masked attention. Default 'block'. */
  readonly plan: WalkedPlan
}

/** Exact attention: every visible key. The baseline that sparse methods are measured against. */
export const dense: MethodFactory<DenseOptions> = defineMethod<DenseOptions>({
  id: 'dense',
  title: 'Dense attention',
  phase: 'any',
  summary: 'Exact attention over every visible key, by the same kernels that sparse plans run on.',
  citation: {
    title: 'FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning',
    authors: 'Dao',
    year: 2023,
    arxiv: '2307.08691',
    url: 'https://arxiv.org/abs/2307.08691',
  },
  options: {
    plan: {
      type: 'choice',
      default: 'block',
      choices: ['block', 'stripe', 'variable-block'],
      description: 'Kind of the plans that a caller may give',
    },
  },
  capabilities: {
    causal: [true, false],
    queryLength: 'any',
    dtypes: ['f32', 'f16'],
    headDim: { multipleOf: 8, max: 256 },
  },
  neutral: {},
  scaled: () => ({}),
  async create(runtime, config, { plan }) {
    const [flash, split] = await Promise.all([
      flashAttention(runtime, config, { plan }),
      splitAttention(runtime, config),
    ])
    const attend: Attend = (frame, data) =>
      data.kind === 'dense' && frame.queryLength <= splitQueryLength ? split(frame, data) : flash(frame, data)
    return { plan: () => ({ plan: { kind: 'dense' }, dispatches: [] }), attend, dispose() {} }
  },
})
