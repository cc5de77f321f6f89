import type { AdapterReport } from '../adapter.js'
import type { Ceilings } from './ceilings.js'
import type { InputKind } from './input.js'
import type { BenchResult } from './measure.js'

/** What `bench --json` prints. */
export interface BenchReport {
  readonly shape: {
    readonly batch: number
    readonly queryHeads: number
    readonly kvHeads: number
    readonly headDim: number
    readonly dtype: 'f16' | 'f32'
    readonly causal: boolean
  }
  readonly input: { readonly kind: InputKind; readonly seed: number }
  /** Where tokens lie, one for each length, where given. */
  readonly grids: readonly (readonly number[])[] | null
  /** Options that were not given are each method's budgets for the length, not its defaults. */
  readonly scaled: boolean
  /** Of each contender, those that count. */
  readonly samples: number
  /** Times on the GPU's clock were taken. */
  readonly gpuTimes: boolean
  readonly ceilings: Ceilings
  readonly results: readonly BenchResult[]
  readonly adapter: AdapterReport
  readonly versions: Readonly<Record<string, string | null>>
  /** UTC, YYYY-MM-DD. */
  readonly date: string
  /** The Markdown file written, where asked for. */
  readonly markdown: string | null
}
