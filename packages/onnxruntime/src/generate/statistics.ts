import type { AttentionEvent } from '../replaced-attention.js'

/** What the attentions did in one run of the model. */
export interface GenerationStatistics {
  /** Kept query–key pairs ÷ visible ones, over all layers. */
  readonly density: number
  readonly layers: readonly LayerStatistics[]
}

export interface LayerStatistics {
  readonly layer: number
  /** Id of the method that ran. */
  readonly method: string
  readonly path: 'sparse' | 'dense'
  readonly density: number
  /** Keys that a query attends to, the mean over queries and heads: what a method's budget has become. */
  readonly keysPerQuery: number
  /** Wall time of planning and attention, the GPU idle before and after. */
  readonly attentionMs: number
}

/** Collects what `onAttention` tells during one run. */
export class StatisticsCollector {
  readonly #layers: LayerStatistics[] = []
  #kept = 0
  #visible = 0

  readonly onAttention = async ({ node, method, plan, q, attentionMs }: AttentionEvent): Promise<void> => {
    const { keptPairs, visiblePairs, density, path } = await plan.stats()
    const [batch, heads, queries] = q.shape as readonly [number, number, number]
    this.#kept += keptPairs
    this.#visible += visiblePairs
    const keysPerQuery = keptPairs / (batch * heads * queries)
    this.#layers.push({ layer: node.layer, method, path, density, keysPerQuery, attentionMs })
  }

  result(): GenerationStatistics {
    return { density: this.#visible === 0 ? 1 : this.#kept / this.#visible, layers: this.#layers }
  }
}
