import { headPairs } from '@sparse-attention/core'
import type { AttentionEvent } from '@sparse-attention/onnxruntime'
import { type SkipMap, skipMap } from './skip-map.js'

export type Branch = 'conditional' | 'unconditional'

/** What one attention of a step kept. */
export interface LayerLook {
  readonly layer: number
  readonly branch: Branch
  /** Query–key pairs. */
  readonly keptPairs: number
  readonly visiblePairs: number
  /** Kept ÷ visible pairs of each head. */
  readonly headDensities: readonly number[]
  readonly map: SkipMap
}

/** What was seen of one step. */
export interface StepLook {
  /** Planning and attention, over layers and branches. */
  readonly attentionMs: number
  readonly layers: readonly LayerLook[]
}

/** Looks at the attentions of a step, and knows how long that took. */
export class Look {
  #attentionMs = 0
  #layers: LayerLook[] = []
  #milliseconds = 0

  /** @param maps whether plans are read; without, attentions are only timed */
  constructor(private readonly maps: boolean) {}

  async at({ plan, context, attentionMs }: AttentionEvent): Promise<void> {
    const start = performance.now()
    this.#attentionMs += attentionMs
    if (this.maps) {
      const host = await plan.read()
      const heads = headPairs(host)
      const { layer = 0, branch = 'conditional' } = context
      this.#layers.push({
        layer,
        branch,
        keptPairs: heads.reduce((sum, { kept }) => sum + kept, 0),
        visiblePairs: heads.reduce((sum, { visible }) => sum + visible, 0),
        headDensities: heads.map(({ kept, visible }) => kept / visible),
        map: skipMap(host),
      })
    }
    this.#milliseconds += performance.now() - start
  }

  /** Gives what there was since the last call, and begins anew. */
  take(): StepLook & { readonly lookingMs: number } {
    const taken = { attentionMs: this.#attentionMs, layers: this.#layers, lookingMs: this.#milliseconds }
    this.#attentionMs = 0
    this.#layers = []
    this.#milliseconds = 0
    return taken
  }
}
