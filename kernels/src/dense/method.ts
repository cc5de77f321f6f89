import { defineMethod, type MethodFactory, type OptionValue, SparseAttentionError } from '@sparse-attention/core'
import { flashAttention } from '../flash-attention/flash-attention.js'
import type { WalkedPlan } from '../flash-attention/walk.js'
import { splitAttention } from '../split-attention/split-attention.js'

export interface DenseOptions extends Readonly<Record<string, OptionValue>> {
  /** Kind of the plans that a caller may give: `dense` over a given plan is masked attention. Default 'block'. */
  readonly plan: WalkedPlan
  /**
   * 'split' shares the keys out between workgroups: for decoding, few queries over many keys, and what reads them from pages.
   * Default 'flash'.
   */
  readonly kernel: 'flash' | 'split'
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
    kernel: {
      type: 'choice',
      default: 'flash',
      choices: ['flash', 'split'],
      description: 'split: few queries over many keys, as in decoding',
    },
  },
  capabilities: {
    causal: [true, false],
    queryLength: 'any',
    dtypes: ['f32', 'f16'],
    headDim: { multipleOf: 8, max: 256 },
    pages: true,
  },
  neutral: {},
  scaled: () => ({}),
  async create(runtime, config, { plan, kernel }) {
    const { pageSize } = config
    if (pageSize !== undefined) {
      if (kernel !== 'split') {
        throw new SparseAttentionError('UNSUPPORTED', {
          message: `The kernel '${kernel}' cannot read keys in pages.`,
          fix: "Use dense({ kernel: 'split' }).",
          where: 'kernel',
        })
      }
      const paged = await splitAttention(runtime, config, { pageSize })
      return {
        plan: () => ({ plan: { kind: 'dense' }, dispatches: [] }),
        attend: (frame, given) => paged(frame, given, frame.pages!),
        dispose() {},
      }
    }
    const attend = await (kernel === 'split'
      ? splitAttention(runtime, config)
      : flashAttention(runtime, config, { plan }))
    return { plan: () => ({ plan: { kind: 'dense' }, dispatches: [] }), attend, dispose() {} }
  },
})
