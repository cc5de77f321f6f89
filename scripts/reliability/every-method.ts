import type {
  AttentionContext,
  MethodDefinition,
  MethodFactory,
  MethodOptions,
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

/** Options that leave something out of 144 tokens, and take no longer than all kernels of the method need. */
export function smallOptions({ options, scaled }: MethodDefinition<MethodOptions>): Partial<MethodOptions> {
  const fewer: Readonly<Record<string, number>> = {
    sampledRows: 8,
    queryClusters: 4,
    keyClusters: 8,
    initialIterations: 2,
    iterations: 1,
    ...('regions' in options && { regions: 3, topK: 3 }),
  }
  const known = Object.entries(fewer).filter(([name]) => name in options)
  return { ...scaled(144), ...Object.fromEntries(known) }
}

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

/** What calls of a method give: its output and LSE, read back and freed. */
export interface Run {
  readonly values: Float32Array
  /** Of the last call's plan. */
  readonly path: string
}

/** One call; of a method that carries a state, `calls` of them in a state of its own. */
export async function runAndRead(
  runtime: Runtime,
  attention: SparseAttention,
  { definition }: MethodFactory,
  { tensors }: SmallCall,
  calls = 1,
): Promise<Run> {
  const state = definition.capabilities.state ? attention.createState() : undefined
  try {
    const values: number[] = []
    let path = ''
    for (let call = 0; call < (state ? calls : 1); call++) {
      const { out, lse, plan } = await attention.run({ ...tensors, ...(state && { state }) })
      path = plan.path
      values.push(...(await runtime.read(out)), ...(await runtime.read(lse)))
      out.buffer.destroy()
      lse.buffer.destroy()
    }
    return { values: Float32Array.from(values), path }
  } finally {
    state?.dispose()
  }
}
