import {
  type BlockPlanData,
  type BufferSlice,
  defineMethod,
  type MethodFactory,
  type OptionValue,
  type PlanData,
  StateEntries,
} from '@sparse-attention/core'
import { type BlockVotes, carriedBlocks, newBlockPlan, votingFlashAttention } from '@sparse-attention/kernels'
import { denseStartOptions, isDenseStart } from '../dense-start.js'
import { type StepThresholds, thresholdOf } from './threshold.js'

export interface LiteAttentionOptions extends Readonly<Record<string, OptionValue>> {
  /**
   * How far below a row's maximum so far every score of a block must lie for the block to be skipped from the next step on, in
   * powers of two; a number, or a table [layer][step] as `calibrateThreshold` finds its entries. Default −10: a weight of
   * at most 2^−10 of the row's largest. −1000 skips nothing that weighs anything in f32.
   */
  readonly threshold: StepThresholds
  /** Steps at the start, and layers from the first on, that are computed densely and leave what is carried as it is. Default 0. */
  readonly denseSteps: number
  readonly denseLayers: number
  /** Tokens at the start, and at the end, whose keys are never skipped: blocks that hold one are always computed. Default 0. */
  readonly mustDoFirst: number
  readonly mustDoLast: number
  /** Queries that are skipped for together, 64 or 128; default 128, the paper's. 64 finds more to skip and runs slower. */
  readonly blockQ: number
}

/** Keys of a block: the paper's 176 do not divide the kernels' tiles. */
const BLOCK_K = 64

/** u32, as the plan's bitmap: the blocks that the last call needed. */
interface Carried {
  readonly needed: BufferSlice
}

/**
 * LiteAttention: a block whose scores lie far below the maxima of its rows in one denoising step does so in later ones. Rows vote on
 * their blocks inside of the attention kernel, which costs no pass over the scores; what no row needs is left out from the
 * next step on, for the rest of the video. Self-attention of a diffusion transformer, or any attention that is called again with
 * similar inputs; arXiv 2511.11062.
 */
export const liteAttention: MethodFactory<LiteAttentionOptions> = defineMethod<LiteAttentionOptions>({
  id: 'lite-attention',
  title: 'LiteAttention',
  phase: 'diffusion',
  summary: 'Skips blocks that an earlier denoising step found negligible inside the attention kernel.',
  citation: {
    title: 'LiteAttention: A Temporal Sparse Attention for Diffusion Transformers',
    authors: 'Shmilovich, Wu, Dahan, Domb',
    year: 2025,
    arxiv: '2511.11062',
    url: 'https://arxiv.org/abs/2511.11062',
  },
  options: {
    threshold: {
      type: 'per-step',
      default: -10,
      min: -1000,
      max: 0,
      description:
        'Blocks whose scores all lie so far below the maximum of their rows are skipped later, in powers of two',
    },
    ...denseStartOptions,
    mustDoFirst: {
      type: 'number',
      default: 0,
      min: 0,
      integer: true,
      description: 'First keys that are never skipped',
    },
    mustDoLast: { type: 'number', default: 0, min: 0, integer: true, description: 'Last keys that are never skipped' },
    blockQ: { type: 'choice', default: 128, choices: [64, 128], description: 'Queries that are skipped for together' },
  },
  capabilities: {
    causal: [false],
    queryLength: 'any',
    dtypes: ['f32', 'f16'],
    headDim: { multipleOf: 8, max: 256 },
    state: true,
    grid: 'optional',
  },
  neutral: { threshold: -1000 },
  // Short rows have few blocks, so more of them.
  scaled: (keyLength) => ({ threshold: -6, blockQ: keyLength < 8192 ? 64 : 128 }),

  async create(runtime, config, options) {
    const { threshold, mustDoFirst, mustDoLast, blockQ } = options
    const [carry, attend] = await Promise.all([
      carriedBlocks(runtime),
      votingFlashAttention(runtime, config, { blockK: BLOCK_K }),
    ])
    /** Of plans that have not been run: whose votes they are. A plan given by the caller has none. */
    const voting = new WeakMap<PlanData, BlockVotes>()
    return {
      createState: () => new StateEntries<Carried>(runtime),
      plan(frame) {
        const { context, queryLength, keyLength } = frame
        const { grid } = context
        if (isDenseStart(context, options)) return { plan: { kind: 'dense' }, dispatches: [] }

        const plan: BlockPlanData = newBlockPlan(frame, blockQ, BLOCK_K)
        const { entry, fresh } = (frame.state as StateEntries<Carried>).entry(frame, (allocate) => ({
          needed: allocate(plan.bitmap.sizeBytes),
        }))
        // Tokens behind the grid are text: video rows see all of it, and its rows see everything.
        const text = grid ? keyLength - grid.reduce((product, size) => product * size, 1) : 0
        voting.set(plan, { threshold: thresholdOf(threshold, context), needed: entry.needed })
        const forced = {
          firstTokens: mustDoFirst,
          lastTokens: Math.max(mustDoLast, text),
          lastRows: queryLength === keyLength ? text : 0,
        }
        return { plan, dispatches: [carry(plan, entry.needed, { fresh, ...forced })] }
      },
      attend(frame, plan) {
        const votes = voting.get(plan)
        voting.delete(plan)
        return attend(frame, plan, votes)
      },
      dispose() {},
    }
  },
})
