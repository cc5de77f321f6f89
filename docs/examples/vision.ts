import type { Runtime, Tensor } from '@sparse-attention/core'
import { bilevelRouting, regionRoutes } from '@sparse-attention/vision'

/** Which regions of an image each region attends to: q, k and v are [1, 2, height · width, 32], row after row. */
export async function route(runtime: Runtime, q: Tensor, k: Tensor, v: Tensor, grid: [number, number]) {
  const config = { queryHeads: 2, headDim: 32, dtype: 'f32', causal: false } as const
  // 4 × 4 regions, each of which attends to its 4 best.
  using attention = await runtime.use(bilevelRouting({ regions: 4, topK: 4 }), config)
  const { out, plan } = await attention.run({ q, k, v, context: { grid } })
  const { routes } = regionRoutes(await plan.read()) // i32[1, 1, 16, 4]
  return { out, routes }
}
