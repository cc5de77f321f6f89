import { defineMethod, type MethodFactory, type OptionValue } from '@sparse-attention/core'
import { flashAttention, forcedBlocks, newBlockPlan } from '@sparse-attention/kernels'
import { minference } from '../minference.js'

export interface AShapeOptions extends Readonly<Record<string, OptionValue>> {
  /** Tokens at the start of the sequence that every query sees. Default 1024, the paper's. */
  readonly sink: number
  /** Tokens up to and including its own that a query sees. Default 4096, the paper's; 4194304 is dense for 4M tokens. */
  readonly localWindow: number
}

/** Tokens per side of a block of the plan. */
const BLOCK = 64

/**
 * A-shape: the first tokens and a window of recent ones, whatever the input (the static pattern of MInference 1.0, arXiv
 * 2407.02490, §3.2; the mask of StreamingLLM, 2309.17453). Causal.
 *
 * Blocks of 64 × 64 that hold a pair of the pattern are computed whole, so up to 63 keys more at the end of the sinks and up
 * to 126 before the window: every pair that the pattern asks for is in the plan.
 */
export const aShape: MethodFactory<AShapeOptions> = defineMethod<AShapeOptions>({
  id: 'a-shape',
  title: 'A-shape',
  phase: 'prefill',
  summary: 'Keeps the first tokens and a window of recent ones, whatever the input.',
  citation: minference,
  options: {
    sink: {
      type: 'number',
      default: 1024,
      min: 0,
      max: 2 ** 22,
      integer: true,
      description: 'Tokens at the start that every query sees',
    },
    localWindow: {
      type: 'number',
      default: 4096,
      min: 1,
      max: 2 ** 22,
      integer: true,
      description: 'Tokens up to its own that a query sees',
    },
  },
  capabilities: {
    causal: [true],
    queryLength: 'any',
    dtypes: ['f32', 'f16'],
    headDim: { multipleOf: 8, max: 256 },
  },
  neutral: { localWindow: 2 ** 22 },
  // The paper's shares of a 24k prompt: a sink of a 24th, a window of a 6th, which together keep about 0.38 of the pairs.
  scaled: (keyLength) => ({
    sink: Math.max(1, Math.round(keyLength / 24)),
    localWindow: Math.max(1, Math.round(keyLength / 6)),
  }),

  async create(runtime, config, { sink, localWindow }) {
    const [pattern, attend] = await Promise.all([
      forcedBlocks(runtime, config.causal, { sinkBlocks: Math.ceil(sink / BLOCK), diagonal: true, localWindow }),
      flashAttention(runtime, config),
    ])
    return {
      plan(frame) {
        if (Math.max(sink, localWindow) >= frame.keyLength) return { plan: { kind: 'dense' }, dispatches: [] }
        const plan = newBlockPlan(frame, BLOCK, BLOCK)
        return { plan, dispatches: [pattern(plan)] }
      },
      attend,
      dispose: () => {},
    }
  },
})
