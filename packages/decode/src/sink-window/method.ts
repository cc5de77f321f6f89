import { defineMethod, type MethodFactory, type OptionValue } from '@sparse-attention/core'
import { sinkWindowLists } from '@sparse-attention/kernels'
import { decodeAttention, decodeOptions, isDenseLayer } from '../selectors/decode-attention.js'
import { pageSource } from '../selectors/page-source.js'

export interface SinkWindowOptions extends Readonly<Record<string, OptionValue>> {
  /** Tokens at the start of a sequence that every query sees. Default 4, the paper's. */
  readonly sink: number
  /** Tokens up to its own that a query sees. Default 1020, which makes 1024 with the sinks. */
  readonly localWindow: number
  /** First layers that stay dense, where `context.layer` is given. Default 0. */
  readonly denseLayers: number
}

/**
 * The first tokens and a window of recent ones, whatever the input: the mask of StreamingLLM, with keys at their own positions.
 * For one query at a time; arXiv 2309.17453.
 */
export const sinkWindow: MethodFactory<SinkWindowOptions> = defineMethod<SinkWindowOptions>({
  id: 'sink-window',
  title: 'Sinks and window',
  phase: 'decode',
  summary: 'Attends to the first tokens of a sequence and its last ones, whatever the input.',
  citation: {
    title: 'Efficient Streaming Language Models with Attention Sinks',
    authors: 'Xiao, Tian, Chen, Han, Lewis',
    year: 2024,
    arxiv: '2309.17453',
    url: 'https://arxiv.org/abs/2309.17453',
  },
  options: {
    sink: {
      type: 'number',
      default: 4,
      min: 1,
      max: 2 ** 22,
      integer: true,
      description: 'Tokens at the start that every query sees',
    },
    localWindow: {
      type: 'number',
      default: 1020,
      min: 1,
      max: 2 ** 22,
      integer: true,
      description: 'Tokens up to its own that a query sees',
    },
    denseLayers: { ...decodeOptions.denseLayers, default: 0 },
  },
  capabilities: {
    causal: [true, false],
    queryLength: 'one',
    dtypes: ['f32', 'f16'],
    headDim: { multipleOf: 8, max: 256 },
    pages: true,
  },
  neutral: { localWindow: 2 ** 22 },
  scaled: (keyLength) => ({ localWindow: Math.max(1, Math.round(keyLength / 3)) }),

  async create(runtime, config, { sink, localWindow, denseLayers }) {
    const pageSize = config.pageSize ?? decodeOptions.pageSize.default
    const [lists, source, attend] = await Promise.all([
      sinkWindowLists(runtime, { sink, window: localWindow }),
      pageSource(runtime, config, pageSize, []),
      decodeAttention(runtime, config),
    ])
    return {
      plan(frame) {
        if (isDenseLayer(frame, denseLayers) || Math.max(sink, localWindow) >= frame.keyLength)
          return { plan: { kind: 'dense' }, dispatches: [] }
        const { pages, dispatches } = source(frame)
        const { plan, dispatch } = lists(frame, pages)
        return { plan, dispatches: [...dispatches, dispatch] }
      },
      attend,
      dispose: () => {},
    }
  },
})
