import type {
  AttentionContext,
  MethodFactory,
  OwnedTensor,
  Runtime,
  SparseAttention,
  UseConfig,
} from '@sparse-attention/core'
import { methods as decode } from '@sparse-attention/decode'
import { methods as diffusion } from '@sparse-attention/diffusion'
import { methods as kernels } from '@sparse-attention/kernels'
import { methods as prefill } from '@sparse-attention/prefill'
import { createRandom } from '@sparse-attention/testing'
import { methods as vision } from '@sparse-attention/vision'

/** All that the packages list: a new one appears without a line here. */
export const everyMethod: readonly MethodFactory[] = [...kernels, ...prefill, ...decode, ...diffusion, ...vision]

/** A small call of any method: 2 query heads of one KV head, 144 tokens, a grid of them where it takes one. */
export interface SmallCall extends Disposable {
  readonly config: UseConfig
  readonly tensors: Readonly<Record<'q' | 'k' | 'v', OwnedTensor>> & { readonly context?: AttentionContext }
}

export function smallCall(runtime: Runtime, { definition }: MethodFactory, seed: number): SmallCall {
  const { headDim: allowed, causal, dtypes, queryLength, grid = 'none', gridAxes = [2, 3] } = definition.capabilities
  const headDim = Math.min(allowed.max, Math.ceil(32 / allowed.multipleOf) * allowed.multipleOf)
  const dtype = dtypes[0]!
  const length = 144
  const random = createRandom(seed)
  const make = (heads: number, tokens: number) =>
    runtime.tensor(
      dtype,
      [1, heads, tokens, headDim],
      Float32Array.from({ length: heads * tokens * headDim }, () => random.gaussian()),
    )
  const q = make(2, queryLength === 'one' ? 1 : length)
  const [k, v] = [make(1, length), make(1, length)]
  const context = grid === 'none' ? {} : { context: { grid: gridAxes.includes(3) ? [4, 6, 6] : [12, 12] } }
  return {
    config: { queryHeads: 2, kvHeads: 1, headDim, dtype, causal: causal.includes(true) },
    tensors: { q, k, v, ...context },
    [Symbol.dispose]() {
      for (const tensor of [q, k, v]) tensor.dispose()
    },
  }
}

/** Output and LSE of a run in a state of its own, read back and freed. */
export async function runAndRead(
  runtime: Runtime,
  attention: SparseAttention,
  { definition }: MethodFactory,
  { tensors }: SmallCall,
): Promise<Float32Array> {
  const state = definition.capabilities.state ? attention.createState() : undefined
  try {
    const { out, lse } = await attention.run({ ...tensors, ...(state && { state }) })
    const read = Float32Array.from([...(await runtime.read(out)), ...(await runtime.read(lse))])
    out.buffer.destroy()
    lse.buffer.destroy()
    return read
  } finally {
    state?.dispose()
  }
}
