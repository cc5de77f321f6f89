import type { Runtime, Tensor } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { xattention } from '@sparse-attention/prefill'

export interface Prompt {
  /** [1, query heads, length, head_dim]; k and v have as many heads or fewer. */
  readonly q: Tensor
  readonly k: Tensor
  readonly v: Tensor
}

/** Dense where a prompt is too short to gain anything, sparse from there on. */
export async function attendToPrompt(runtime: Runtime, { q, k, v }: Prompt, sparseFrom = 4096) {
  const [, queryHeads, length, headDim] = q.shape as [number, number, number, number]
  const config = { queryHeads, kvHeads: k.shape[1]!, headDim, dtype: q.dtype, causal: true }
  // `scaled` gives options that keep a density of 0.2 to 0.5 at this length.
  using attention =
    length < sparseFrom
      ? await runtime.use(dense(), config)
      : await runtime.use(xattention(xattention.definition.scaled(length)), config)
  const { out, lse, plan } = await attention.run({ q, k, v })
  const { density } = await plan.stats()
  return { out, lse, density }
}
