import { defineMethod, type MethodFactory, type OptionValue } from '@sparse-attention/core'
import { perHeadTable } from '@sparse-attention/kernels'
import { decodeAttention, decodeOptions, isDenseLayer } from '../selectors/decode-attention.js'
import {
  type Estimate,
  estimateMetadata,
  everyPage,
  questSelector,
  selectionPlan,
  topPPruner,
} from '../selectors/page-selector.js'
import { pageSource } from '../selectors/page-source.js'

export interface TwilightOptions extends Readonly<Record<string, OptionValue>> {
  /** Share p of the estimated mass that each head keeps of what the selector chose; a number or [layer][head]. Default 0.95. */
  readonly topP: number | readonly (readonly number[])[]
  /** What chooses the pages to prune: 'quest', or 'every' page. Default 'quest'. */
  readonly selector: 'quest' | 'every'
  /** Tokens that the selector keeps, in whole pages. Default 8192, the paper's. */
  readonly tokenBudget: number
  /** Bits of the keys that attention is estimated from, or the keys themselves. Default 4, the paper's. */
  readonly estimate: 4 | 8 | 'exact'
  /** Tokens of a page, 16, 32 or 64. Default 16. A paged cache has its own. */
  readonly pageSize: number
  /** First layers that stay dense, where `context.layer` is given. Default 2. */
  readonly denseLayers: number
}

/**
 * Twilight: how many tokens matter differs from head to head and from query to query, so a selector with a generous budget is
 * followed by a top-p over attention that is estimated from keys in 4 bits. For one query at a time; arXiv 2502.02770.
 */
export const twilight: MethodFactory<TwilightOptions> = defineMethod<TwilightOptions>({
  id: 'twilight',
  title: 'Twilight',
  phase: 'decode',
  summary:
    'Prunes what a selector of pages keeps to the tokens that hold a share p of the attention, estimated in 4 bits.',
  citation: {
    title: 'Twilight: Adaptive Attention Sparsity with Hierarchical Top-p Pruning',
    authors: 'Lin, Tang, Yang, Wang, Tang, Tian, Stoica, Han, Gao',
    year: 2025,
    arxiv: '2502.02770',
    url: 'https://arxiv.org/abs/2502.02770',
  },
  options: {
    topP: {
      type: 'per-head',
      default: 0.95,
      min: 0,
      max: 1,
      description: 'Share of the estimated mass that each head keeps',
    },
    selector: {
      type: 'choice',
      default: 'quest',
      choices: ['quest', 'every'],
      description: 'What chooses the pages to prune',
    },
    tokenBudget: {
      type: 'number',
      default: 8192,
      min: 16,
      max: 2 ** 22,
      integer: true,
      description: 'Tokens that the selector keeps',
    },
    estimate: {
      type: 'choice',
      default: 4,
      choices: [4, 8, 'exact'],
      description: 'Bits of the keys that attention is estimated from',
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
  // The budget is no knob: fewer pages to prune may leave mass that more tokens have to make up for.
  neutral: { topP: 1, selector: 'every' },
  scaled: (keyLength) => ({ topP: 0.85, tokenBudget: Math.max(32, Math.round(keyLength / 2)) }),

  async create(runtime, config, { topP, selector: kind, tokenBudget, denseLayers, ...options }) {
    const pageSize = config.pageSize ?? options.pageSize
    const estimate = options.estimate as Estimate
    const table = perHeadTable(runtime, 'topP', topP, config.queryHeads)
    const [selector, prune, attend] = await Promise.all([
      kind === 'quest'
        ? questSelector(runtime, config, { pageSize, tokenBudget, heads: 'sum' })
        : everyPage(runtime, config),
      topPPruner(runtime, config, { estimate, topP: table.slice }),
      decodeAttention(runtime, config),
    ])
    const metadata = [...selector.metadata, ...estimateMetadata(estimate)]
    const source = await pageSource(runtime, config, pageSize, metadata)
    return {
      plan(frame) {
        const layer = table.layer(frame.context.layer)
        const keepsAll = table.min >= 1 && selector.keepsAll(frame)
        if (isDenseLayer(frame, denseLayers) || keepsAll) return { plan: { kind: 'dense' }, dispatches: [] }
        const { pages, dispatches } = source(frame)
        const selection = selector.select(frame, pages)
        const kept = table.min >= 1 ? selection : prune(frame, pages, selection, layer)
        return { plan: selectionPlan(frame, kept), dispatches: [...dispatches, ...kept.dispatches] }
      },
      attend,
      dispose: () => table.dispose(),
    }
  },
})
