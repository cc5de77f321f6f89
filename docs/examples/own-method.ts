import { defineMethod, type MethodFactory, type OptionValue } from '@sparse-attention/core'
import { flashAttention, forcedBlocks, newBlockPlan } from '@sparse-attention/kernels'

export interface FirstAndOwnOptions extends Readonly<Record<string, OptionValue>> {
  /** Blocks at the start of the sequence that every query sees. Default 1. */
  readonly sinkBlocks: number
}

const BLOCK = 64

/** Each block of queries sees the first blocks of keys and its own. */
export const firstAndOwn: MethodFactory<FirstAndOwnOptions> = defineMethod<FirstAndOwnOptions>({
  id: 'first-and-own',
  title: 'First and own',
  phase: 'prefill',
  summary: 'Keeps the first blocks and the diagonal, whatever the input.',
  citation: {
    title: 'Efficient Streaming Language Models with Attention Sinks',
    authors: 'Xiao, Tian, Chen, Han, Lewis',
    year: 2024,
    arxiv: '2309.17453',
    url: 'https://arxiv.org/abs/2309.17453',
  },
  options: {
    sinkBlocks: {
      type: 'number',
      default: 1,
      min: 0,
      max: 2 ** 16,
      integer: true,
      description: 'Blocks of 64 tokens at the start that every query sees',
    },
  },
  capabilities: {
    causal: [true],
    queryLength: 'any',
    dtypes: ['f32', 'f16'],
    headDim: { multipleOf: 8, max: 256 },
  },
  neutral: { sinkBlocks: 2 ** 16 },
  scaled: (keyLength) => ({ sinkBlocks: Math.ceil(keyLength / 4 / BLOCK) }),

  async create(runtime, config, { sinkBlocks }) {
    // Compiled once; both only record dispatches later.
    const [select, attend] = await Promise.all([
      forcedBlocks(runtime, config.causal, { sinkBlocks, diagonal: true }),
      flashAttention(runtime, config),
    ])
    return {
      plan(frame) {
        if (sinkBlocks * BLOCK >= frame.keyLength) return { plan: { kind: 'dense' }, dispatches: [] }
        const plan = newBlockPlan(frame, BLOCK, BLOCK)
        return { plan, dispatches: [select(plan)] }
      },
      attend,
      dispose: () => {},
    }
  },
})
