import { defineMethod, type MethodFactory, type OptionValue } from '@sparse-attention/core'
import { equalRegions, permutedAttention, regionCounts, regionSums, routeRegions } from '@sparse-attention/kernels'
import { gridOf } from '../grid.js'
import { regionPlans } from '../region-plan.js'

export interface BilevelRoutingOptions extends Readonly<Record<string, OptionValue>> {
  /** Regions S of each side of the grid, at most 32; of a side that is shorter, its tokens. Default 7, the paper's at 224 pixels. */
  readonly regions: number
  /** Regions k that each region attends to; all of them is dense. Default 4, of the paper's second stage. */
  readonly topK: number
  /** One routing for all heads, as in the paper, or one for each. Default 'shared'. */
  readonly routing: string
}

/**
 * Bi-level routing: the means of queries and keys over regions of an image say which k regions each region attends to, and
 * its tokens attend to theirs. Not causal, self-attention; arXiv 2303.08810.
 *
 * Nothing is gathered k times: tokens are brought into the order of their regions once, and the routes are a plan.
 */
export const bilevelRouting: MethodFactory<BilevelRoutingOptions> = defineMethod<BilevelRoutingOptions>({
  id: 'bilevel-routing',
  title: 'Bi-level routing',
  phase: 'vision',
  summary: 'Routes each region of an image to the k regions whose mean keys match its mean query best.',
  citation: {
    title: 'BiFormer: Vision Transformer with Bi-Level Routing Attention',
    authors: 'Zhu, Wang, Ke, Zhang, Lau',
    year: 2023,
    arxiv: '2303.08810',
    url: 'https://arxiv.org/abs/2303.08810',
  },
  options: {
    regions: {
      type: 'number',
      default: 7,
      min: 1,
      max: 32,
      integer: true,
      description: 'Regions of each side of the grid',
    },
    topK: {
      type: 'number',
      default: 4,
      min: 1,
      max: 1024,
      integer: true,
      description: 'Regions that each region attends to',
    },
    routing: {
      type: 'choice',
      default: 'shared',
      choices: ['shared', 'per-head'],
      description: 'One routing for all heads, or one for each',
    },
  },
  capabilities: {
    causal: [false],
    queryLength: 'any',
    selfAttention: true,
    grid: 'required',
    gridAxes: [2],
    dtypes: ['f32', 'f16'],
    headDim: { multipleOf: 8, max: 256 },
  },
  neutral: { topK: 1024 },
  // A third of the regions that a square image of so many tokens has; the paper's stages keep 0.02, 0.08 and 0.33.
  scaled: (keyLength) => {
    const side = Math.max(1, Math.round(Math.sqrt(keyLength)))
    return { topK: Math.max(1, Math.round(regionCounts(equalRegions([side, side], 7)).count / 3)) }
  },

  async create(runtime, config, { regions: perSide, topK, routing }) {
    const [arrange, sum, route, attend] = await Promise.all([
      regionPlans(runtime),
      regionSums(runtime, config),
      routeRegions(runtime, config),
      permutedAttention(runtime, config, { plan: 'variable-block' }),
    ])
    const headsTogether = routing === 'shared' ? config.queryHeads : 1
    return {
      permutedPlans: true,
      plan(frame) {
        const regions = equalRegions(gridOf(frame), perSide)
        const { count } = regionCounts(regions)
        if (topK >= count) return { plan: { kind: 'dense' }, dispatches: [] }

        const { batch, queryHeads, kvHeads, headDim } = frame
        const qSums = frame.scratch(4 * batch * queryHeads * count * headDim)
        const kSums = frame.scratch(4 * batch * kvHeads * count * headDim)
        const { plan, bitmap, dispatches } = arrange(frame, regions)
        return {
          plan,
          dispatches: [
            ...dispatches,
            ...sum(frame.q, regions, qSums),
            ...sum(frame.k, regions, kSums),
            ...route(frame, { regions, topK, headsTogether }, qSums, kSums, bitmap),
          ],
        }
      },
      attend,
      dispose: () => {},
    }
  },
})
