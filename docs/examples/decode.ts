import type { Runtime, Tensor } from '@sparse-attention/core'
import { pageBounds, pagedKVCache, quest } from '@sparse-attention/decode'

const shape = { kvHeads: 2, headDim: 32, dtype: 'f32' } as const

/** A prompt goes into the cache; then one query at a time attends to the best of its pages. */
export async function decode(
  runtime: Runtime,
  prompt: { k: Tensor; v: Tensor },
  tokens: readonly { q: Tensor; k: Tensor; v: Tensor }[],
): Promise<Float32Array[]> {
  // Pages of 16 tokens; `pageBounds` is what quest ranks them by, kept up to date as tokens come.
  using cache = await pagedKVCache(runtime, { ...shape, capacity: 1024, pageSize: 16, metadata: [pageBounds] })
  using attention = await runtime.use(quest({ tokenBudget: 64 }), {
    ...shape,
    queryHeads: 4,
    causal: true,
    pageSize: 16,
  })

  const append = (k: Tensor, v: Tensor) => {
    const encoder = runtime.device.createCommandEncoder()
    cache.append(encoder, k, v)
    runtime.device.queue.submit([encoder.finish()])
  }

  append(prompt.k, prompt.v) // [1, 2, tokens, 32]
  const outputs: Float32Array[] = []
  for (const { q, k, v } of tokens) {
    append(k, v) // [1, 2, 1, 32]
    const { out } = await attention.run({ q, cache }) // [1, 4, 1, 32]
    outputs.push(await runtime.read(out))
    out.buffer.destroy()
  }
  return outputs
}
