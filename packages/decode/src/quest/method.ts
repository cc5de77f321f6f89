import { defineMethod, type MethodFactory, type OptionValue } from '@sparse-attention/core'
import { decodeAttention, decodeOptions, isDenseLayer } from '../selectors/decode-attention.js'
import { questSelector, selectionPlan } from '../selectors/page-selector.js'
import { pageSource } from '../selectors/page-source.js'

export interface QuestOptions extends Readonly<Record<string, OptionValue>> {
  /** Tokens that a head attends to, in whole pages, the first and the last page counted; at least those two. Default 1024. */
  readonly tokenBudget: number
  /** Tokens of a page, 16, 32 or 64. Default 16, the paper's. A paged cache has its own. */
  readonly pageSize: number
  /** 'sum' ranks pages once for the query heads of a KV head, 'separate' for each of them. Default 'sum'. */
  readonly heads: 'sum' | 'separate'
  /** First layers that stay dense, where `context.layer` is given. Default 2, the paper's. */
  readonly denseLayers: number
}

/**
 * Quest: the least and largest number of each channel of a page's keys bound every score in it, so pages whose bound is small
 * need not be read. For one query at a time; arXiv 2406.10774.
 */
export const quest: MethodFactory<QuestOptions> = defineMethod<QuestOptions>({
  id: 'quest',
  title: 'Quest',
  phase: 'decode',
  summary: 'Ranks pages of keys by bounds of their scores and attends to the best.',
  citation: {
    title: 'Quest: Query-Aware Sparsity for Efficient Long-Context LLM Inference',
    authors: 'Tang, Zhao, Zhu, Xiao, Kasikci, Han',
    year: 2024,
    arxiv: '2406.10774',
    url: 'https://arxiv.org/abs/2406.10774',
  },
  options: {
    tokenBudget: {
      type: 'number',
      default: 1024,
      min: 16,
      max: 2 ** 22,
      integer: true,
      description: 'Tokens that a head attends to',
    },
    heads: {
      type: 'choice',
      default: 'sum',
      choices: ['sum', 'separate'],
      description: 'Whether the query heads of a KV head share a list of pages',
    },
    ...decodeOptions,
  },
  capabilities: {
    causal: [true, false],
    queryLength: 'one',
    dtypes: ['f32', 'f16'],
    headDim: { multipleOf: 8, max: 256 },
    pages: true,
  },
  neutral: { tokenBudget: 2 ** 22 },
  scaled: (keyLength) => ({ tokenBudget: Math.max(32, Math.round(keyLength / 3)) }),

  async create(runtime, config, { tokenBudget, heads, denseLayers, ...options }) {
    const pageSize = config.pageSize ?? options.pageSize
    const selector = await questSelector(runtime, config, { pageSize, tokenBudget, heads })
    const [source, attend] = await Promise.all([
      pageSource(runtime, config, pageSize, selector.metadata),
      decodeAttention(runtime, config),
    ])
    return {
      plan(frame) {
        if (isDenseLayer(frame, denseLayers) || selector.keepsAll(frame))
          return { plan: { kind: 'dense' }, dispatches: [] }
        const { pages, dispatches } = source(frame)
        const selection = selector.select(frame, pages)
        return { plan: selectionPlan(frame, selection), dispatches: [...dispatches, ...selection.dispatches] }
      },
      attend,
      dispose: () => {},
    }
  },
})
