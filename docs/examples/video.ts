import type { Runtime, Tensor } from '@sparse-attention/core'
import { liteAttention } from '@sparse-attention/diffusion'

/** The attention of one layer through the steps of a sampler. Returns what share of the pairs each step computed. */
export async function denoise(
  runtime: Runtime,
  steps: readonly { q: Tensor; k: Tensor; v: Tensor }[],
): Promise<number[]> {
  const config = { queryHeads: 2, headDim: 32, dtype: 'f32', causal: false } as const
  using attention = await runtime.use(liteAttention({ threshold: -4 }), config)

  // What one step found negligible, the next ones skip: it is kept here, one state for each video.
  using state = attention.createState()
  const densities: number[] = []
  for (const [step, { q, k, v }] of steps.entries()) {
    const context = { layer: 0, step, steps: steps.length, branch: 'conditional' } as const
    const { plan } = await attention.run({ q, k, v, state, context })
    densities.push((await plan.stats()).density)
  }
  return densities
}
