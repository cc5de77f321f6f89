import { type Dispatch, defineMethod, type MethodFactory, type OptionValue } from '@sparse-attention/core'
import {
  antidiagonalStatistics,
  blockWeights,
  chunkBytes,
  chunkRows,
  flashAttention,
  forcedBlocks,
  newBlockPlan,
  perHeadTable,
  selectTopP,
} from '@sparse-attention/kernels'

export interface XAttentionOptions extends Readonly<Record<string, OptionValue>> {
  /** Share τ of the estimated mass that each row of blocks keeps; a number or [layer][head]. 1 is dense. Default 0.9. */
  readonly threshold: number | readonly (readonly number[])[]
  /** Stride S of the antidiagonals: larger is cheaper and coarser. 4, 8 or 16; default 16. */
  readonly stride: number
  /** Tokens per side of a block, 64 or 128; default 128, the paper's. */
  readonly blockSize: number
}

/** Statistics kept in scratch at once, what one binding holds anywhere; longer inputs are estimated in chunks of rows. */
const STATISTICS_BYTES = 128 * 2 ** 20

/**
 * XAttention: an antidiagonal crosses every vertical and slash line of a tile, so sums along strided antidiagonals rank
 * blocks. Causal and not causal; arXiv 2503.16428.
 */
export const xattention: MethodFactory<XAttentionOptions> = defineMethod<XAttentionOptions>({
  id: 'xattention',
  title: 'XAttention',
  phase: 'prefill',
  summary: 'Ranks 128×128 blocks by strided antidiagonal scores and keeps a share of their mass.',
  citation: {
    title: 'XAttention: Block Sparse Attention with Antidiagonal Scoring',
    authors: 'Xu, Xiao, Huang, Guo, Han',
    year: 2025,
    arxiv: '2503.16428',
    url: 'https://arxiv.org/abs/2503.16428',
  },
  options: {
    threshold: {
      type: 'per-head',
      default: 0.9,
      min: 0,
      max: 1,
      description: 'Share of the estimated mass that each row of blocks keeps',
    },
    stride: { type: 'choice', default: 16, choices: [4, 8, 16], description: 'Stride of the antidiagonals' },
    blockSize: { type: 'choice', default: 128, choices: [64, 128], description: 'Tokens per side of a block' },
  },
  capabilities: {
    causal: [true, false],
    queryLength: 'any',
    dtypes: ['f32', 'f16'],
    headDim: { multipleOf: 8, max: 256 },
  },
  neutral: { threshold: 1 },
  // Short rows have few blocks, so smaller ones; and what is skipped matters more, so a finer stride and a higher share.
  scaled: (keyLength) => ({ threshold: 0.95, stride: 8, blockSize: keyLength < 8192 ? 64 : 128 }),

  async create(runtime, config, { threshold, stride, blockSize }) {
    const { causal, queryHeads } = config
    const [score, weigh, forced, select, attend] = await Promise.all([
      antidiagonalStatistics(runtime, config, stride, blockSize),
      blockWeights(runtime, causal, stride, blockSize),
      forcedBlocks(runtime, causal, { sinkBlocks: causal ? 1 : 0, diagonal: causal }),
      selectTopP(runtime, causal),
      flashAttention(runtime, config),
    ])
    const thresholds = perHeadTable(runtime, 'threshold', threshold, queryHeads)
    return {
      plan(frame) {
        const layer = thresholds.layer(frame.context.layer)
        if (thresholds.min >= 1) return { plan: { kind: 'dense' }, dispatches: [] }

        const heads = frame.batch * queryHeads
        const plan = newBlockPlan(frame, blockSize, blockSize)
        const queryBlocks = Math.ceil(frame.queryLength / blockSize)
        const keyBlocks = Math.ceil(frame.keyLength / blockSize)
        const rows = Math.ceil(frame.queryLength / stride)
        // Two numbers for each row and key block.
        const chunks = chunkRows(rows, 2 * keyBlocks, blockSize / stride, heads, STATISTICS_BYTES)

        const statistics = frame.scratch(chunkBytes(heads, chunks[0]!))
        const weights = frame.scratch(heads * queryBlocks * keyBlocks * 4)
        const estimate: Dispatch[] = chunks.flatMap((chunk) => [
          ...score(frame, chunk, statistics),
          weigh(frame, chunk, statistics, weights),
        ])
        return { plan, dispatches: [...estimate, forced(plan), select(plan, weights, thresholds.slice, layer)] }
      },
      attend,
      dispose: () => thresholds.dispose(),
    }
  },
})
