import {
  type AttentionFrame,
  defineMethod,
  type MethodFactory,
  type OptionValue,
  type PermutedPlanData,
} from '@sparse-attention/core'
import { bandBlocks, headProfile, newBlockPlan, permutedAttention } from '@sparse-attention/kernels'
import { denseStartOptions, isDenseStart } from '../dense-start.js'
import { firstRows } from '../first-rows.js'
import { bandReach, bandShare, profileReach } from './band.js'

export interface SparseVideogenOptions extends Readonly<Record<string, OptionValue>> {
  /** Share of the pairs that is kept, first frame apart. 1 is dense. Default 0.3, that of the scripts for Wan 2.1. */
  readonly density: number
  /** Rows that tell what kind a head is. Default 64, that of the scripts; the paper has 32. */
  readonly sampledRows: number
  /** Frames that the masks of the profile reach. Default 2, that of Wan 2.1; 1.5 of HunyuanVideo. */
  readonly profileFrames: number
  /** Frames at the start whose keys everyone keeps; of temporal heads as many first tokens. Default 1. */
  readonly sinkFrames: number
  /** Tokens per side of a block, 64 or 128. Default 128. */
  readonly blockSize: number
  /** Steps at the start, and layers from the first on, that are computed densely. Default 0; the scripts have 20 % of the steps. */
  readonly denseSteps: number
  readonly denseLayers: number
}

/**
 * Sparse VideoGen: heads look at near frames, or at one place in all frames. A few rows of each head say which, in every call; the
 * tokens of temporal heads are brought into the order of places; a band around the diagonal serves both; arXiv 2502.01776. Tokens
 * behind the grid of the context, such as a prompt, see everything and are seen by all.
 */
export const sparseVideogen: MethodFactory<SparseVideogenOptions> = defineMethod<SparseVideogenOptions>({
  id: 'sparse-videogen',
  title: 'Sparse VideoGen',
  phase: 'diffusion',
  summary: 'Tells spatial heads from temporal ones by a few rows and keeps a band, of frames or of places.',
  citation: {
    title: 'Sparse VideoGen: Accelerating Video Diffusion Transformers with Spatial-Temporal Sparsity',
    authors: 'Xi, Yang, Zhao, Xu, Li, Li, et al.',
    year: 2025,
    arxiv: '2502.01776',
    url: 'https://arxiv.org/abs/2502.01776',
  },
  options: {
    density: { type: 'number', default: 0.3, min: 0, max: 1, description: 'Share of the pairs that is kept' },
    sampledRows: {
      type: 'number',
      default: 64,
      min: 1,
      max: 1024,
      integer: true,
      description: 'Rows that tell what kind a head is',
    },
    profileFrames: {
      type: 'number',
      default: 2,
      min: 0.5,
      max: 64,
      description: 'Frames that the masks of the profile reach',
    },
    sinkFrames: {
      type: 'number',
      default: 1,
      min: 0,
      max: 64,
      integer: true,
      description: 'Frames at the start that everyone keeps',
    },
    blockSize: { type: 'choice', default: 128, choices: [64, 128], description: 'Tokens per side of a block' },
    ...denseStartOptions,
  },
  capabilities: {
    causal: [false],
    queryLength: 'any',
    dtypes: ['f32', 'f16'],
    headDim: { multipleOf: 8, max: 256 },
    grid: 'required',
    gridAxes: [3],
    selfAttention: true,
  },
  neutral: { density: 1 },
  // Of few tokens a block is much.
  scaled: (keyLength) => ({ density: 0.3, blockSize: keyLength < 8192 ? 64 : 128 }),

  async create(runtime, config, options) {
    const { density, sampledRows, profileFrames, sinkFrames } = options
    const block = options.blockSize
    const [profile, band, attend] = await Promise.all([
      headProfile(runtime, config),
      bandBlocks(runtime),
      permutedAttention(runtime, config, { plan: 'block' }),
    ])
    const rows = firstRows(runtime)
    return {
      permutedPlans: true,
      plan(frame: AttentionFrame) {
        const { grid } = frame.context
        if (isDenseStart(frame.context, options) || density >= 1) return { plan: { kind: 'dense' }, dispatches: [] }

        const [frames, height, width] = grid as [number, number, number]
        const { batch, queryHeads, keyLength } = frame
        const frameLength = height * width
        const tokens = frames * frameLength
        const count = Math.min(sampledRows, tokens)
        const indices = rows.get({ segments: 1, clusters: count, groups: count, members: tokens })
        const order = frame.planBuffer(batch * queryHeads * keyLength * 4)
        const plan: PermutedPlanData = {
          ...newBlockPlan(frame, block, block),
          permutation: { keyHeads: queryHeads, queries: order, keys: order },
        }
        const masks = { block, reach: profileReach(frameLength, profileFrames, block) }
        return {
          plan,
          dispatches: [
            ...profile(frame, { frames, frameLength }, masks, { count, indices }, order),
            band(plan, {
              reach: bandReach(tokens, bandShare(density, keyLength, keyLength - tokens), block),
              firstKeys: Math.min(tokens, sinkFrames * frameLength),
              ...(tokens < keyLength && { denseFrom: tokens }),
            }),
          ],
        }
      },
      attend,
      dispose: () => rows.dispose(),
    }
  },
})
