import type { Runtime, SparseAttention, Tensor } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import type { AttentionEvent } from '@sparse-attention/onnxruntime'

/** LSEs of exact attention beside a sparse one, which recall is measured by. Keeps an attention and outputs for each shape. */
export class ExactLse implements Disposable {
  readonly #made = new Map<
    string,
    { readonly attention: SparseAttention; readonly out: Tensor; readonly lse: Tensor }
  >()

  constructor(private readonly runtime: Runtime) {}

  /** [batch, query_heads, query_length], read back. */
  async of({ node, q, k, v }: Pick<AttentionEvent, 'node' | 'q' | 'k' | 'v'>): Promise<Float32Array> {
    const { attention, out, lse } = await this.#for(node, q)
    await attention.run({ q, k, v, out, lse })
    return this.runtime.read(lse)
  }

  async #for({ queryHeads, kvHeads, causal, scale }: AttentionEvent['node'], { dtype, shape }: Tensor) {
    const key = [dtype, shape, kvHeads, causal, scale].join()
    const known = this.#made.get(key)
    if (known) return known
    const config = { queryHeads, kvHeads, headDim: shape[3]!, dtype, causal, ...(scale !== undefined && { scale }) }
    const made = {
      attention: await this.runtime.use(dense(), config),
      out: this.runtime.tensor(dtype, shape),
      lse: this.runtime.tensor('f32', shape.slice(0, 3)),
    }
    this.#made.set(key, made)
    return made
  }

  [Symbol.dispose](): void {
    for (const { attention, out, lse } of this.#made.values()) {
      attention.dispose()
      out.buffer.destroy()
      lse.buffer.destroy()
    }
    this.#made.clear()
  }
}
