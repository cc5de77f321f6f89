import { defineMethod, type MethodFactory, type OptionValue } from '@sparse-attention/core'
import { forcedBlocks, permutedAttention, regionCounts, shiftedWindows as windowsOf } from '@sparse-attention/kernels'
import { gridOf } from '../grid.js'
import { regionPlans } from '../region-plan.js'

export interface ShiftedWindowsOptions extends Readonly<Record<string, OptionValue>> {
  /** Tokens of a window's side, at least 2. Default 7, the paper's; 65536 is dense. */
  readonly window: number
  /** Which layers have their windows shifted by half a window: those of odd `context.layer`, none, all. Default 'alternate'. */
  readonly shift: string
}

/**
 * Shifted windows: a token attends to the window that it lies in, whatever the input; every other layer's windows are
 * shifted by half their size, so that what was on two sides of an edge meets. Not causal, self-attention; arXiv 2103.14030.
 *
 * Rolling the grid and masking the seam is the same as cutting windows at the edges of the image; so nothing is rolled and
 * nothing is masked. There is no bias of relative positions.
 */
export const shiftedWindows: MethodFactory<ShiftedWindowsOptions> = defineMethod<ShiftedWindowsOptions>({
  id: 'shifted-windows',
  title: 'Shifted windows',
  phase: 'vision',
  summary: 'Attends inside windows of an image, shifted by half a window in every other layer, whatever the input.',
  citation: {
    title: 'Swin Transformer: Hierarchical Vision Transformer using Shifted Windows',
    authors: 'Liu, Lin, Cao, Hu, Wei, Zhang, Lin, Guo',
    year: 2021,
    arxiv: '2103.14030',
    url: 'https://arxiv.org/abs/2103.14030',
  },
  options: {
    window: {
      type: 'number',
      default: 7,
      min: 2,
      max: 65536,
      integer: true,
      description: "Tokens of a window's side",
    },
    shift: {
      type: 'choice',
      default: 'alternate',
      choices: ['alternate', 'none', 'always'],
      description: 'Layers whose windows are shifted by half a window: the odd ones, none, all',
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
  neutral: { window: 65536 },
  // Of a square image: two windows a side, of 0.6 and 0.4 of it, which together keep (0.6² + 0.4²)² = 0.27 of the pairs.
  scaled: (keyLength) => ({ window: Math.max(2, Math.round(0.6 * Math.sqrt(keyLength))) }),

  async create(runtime, config, { window, shift }) {
    const [arrange, diagonal, attend] = await Promise.all([
      regionPlans(runtime),
      forcedBlocks(runtime, false, { sinkBlocks: 0, diagonal: true }),
      permutedAttention(runtime, config, { plan: 'variable-block' }),
    ])
    return {
      permutedPlans: true,
      plan(frame) {
        const [height, width] = gridOf(frame)
        const shifted = shift === 'always' || (shift === 'alternate' && (frame.context.layer ?? 0) % 2 === 1)
        // A window as long as a side sees all of it; shifting it would only take something away.
        const by = shifted && window < Math.min(height, width) ? Math.floor(window / 2) : 0
        const windows = windowsOf([height, width], window, by)
        const { count } = regionCounts(windows)
        if (count === 1) return { plan: { kind: 'dense' }, dispatches: [] }

        const { plan, bitmap, dispatches } = arrange(frame, windows)
        const { batch, queryHeads, causal } = frame
        // In units of windows: each attends to itself.
        const itself = { kind: 'block', batch, queryHeads, causal, bitmap, blockQ: 1, blockK: 1 } as const
        return { plan, dispatches: [...dispatches, diagonal({ ...itself, queryLength: count, keyLength: count })] }
      },
      attend,
      dispose: () => {},
    }
  },
})
