import { createRuntime } from '@sparse-attention/core'
import { xattention } from '@sparse-attention/prefill'

// A prompt of 512 tokens, 4 heads of 32: [batch, heads, length, head_dim].
const shape = [1, 4, 512, 32]
const random = () => Float32Array.from({ length: 4 * 512 * 32 }, () => 2 * Math.random() - 1)

export async function quickStart(): Promise<{ density: number; path: string; first: number }> {
  using runtime = await createRuntime()
  const q = runtime.tensor('f32', shape, random())
  const k = runtime.tensor('f32', shape, random())
  const v = runtime.tensor('f32', shape, random())

  // Compiled once, for these heads and this dtype; lengths may change from call to call.
  using attention = await runtime.use(xattention({ threshold: 0.5, blockSize: 64 }), {
    queryHeads: 4,
    headDim: 32,
    dtype: 'f32',
    causal: true,
  })
  const { out, plan } = await attention.run({ q, k, v })

  // Nothing is read back before you ask for it.
  const { density } = await plan.stats()
  const values = await runtime.read(out)
  return { density, path: plan.path, first: values[0]! }
}
