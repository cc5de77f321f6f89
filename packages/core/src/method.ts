import type { Dispatch } from './dispatch.js'
import type { KeyPages, KVCache } from './kv-cache.js'
import type { PlanData } from './plan.js'
import type { Runtime } from './runtime.js'
import type { AttentionState, MethodState } from './state.js'
import type { BufferSlice, DType, Tensor } from './tensor.js'

/** Fixed when an attention is made: what is compiled into its pipelines. */
export interface AttentionConfig {
  readonly queryHeads: number
  /** Divides `queryHeads`. Default: `queryHeads`. */
  readonly kvHeads?: number
  /** Multiple of 8, at most 256. */
  readonly headDim: number
  readonly dtype: DType
  /** Bottom-right: query i sees keys j ≤ i + key_length − query_length. */
  readonly causal: boolean
  /** Factor on QKᵀ. Default 1/√headDim. */
  readonly scale?: number
}

/** What `runtime.use` takes. */
export interface UseConfig extends AttentionConfig {
  /** Keys and values come from paged caches with pages of so many tokens. Default: from tensors. */
  readonly pageSize?: number
}

/** What a method is compiled for: a configuration with its defaults. `pageSize` is there where keys come from pages. */
export type CompiledConfig = Required<AttentionConfig> & Pick<UseConfig, 'pageSize'>

/** What a method may need beyond tensors. */
export interface AttentionContext {
  /** Index of the model layer, for options given per layer. Default 0. */
  readonly layer?: number
  /** Denoising step, 0-based, and the number of steps. */
  readonly step?: number
  readonly steps?: number
  /** Branch of classifier-free guidance. */
  readonly branch?: 'conditional' | 'unconditional'
  /** Keys state that is kept per sequence. */
  readonly sequence?: string
  /**
   * Token grid: [height, width] or [frames, height, width], of the first tokens in row-major order. Tokens behind it, such
   * as a prompt, belong to no place.
   */
  readonly grid?: readonly number[]
}

/**
 * B batch · Hq, Hkv query and KV heads (Hq % Hkv == 0) · Lq, Lk query and key length · D head dim.
 * Any strides with a contiguous last axis: [B, L, H, D] memory is passed as a permuted view.
 */
export interface AttentionTensors {
  /** [B, Hq, Lq, D] */
  readonly q: Tensor
  /** [B, Hkv, Lk, D], same dtype as q; v likewise. */
  readonly k: Tensor
  readonly v: Tensor
  /** [B, Hq, Lq, D], same dtype as q. `run` makes one when it is absent; `encode` needs it. */
  readonly out?: Tensor
  /** [B, Hq, Lq] f32, contiguous, natural log; −inf in rows that see no key. `run` makes one when absent. */
  readonly lse?: Tensor
  readonly context?: AttentionContext
  /**
   * What the method remembers of this video, made by this attention's `createState`. Absent: a state of the attention's own,
   * which its `reset` resets. Only for methods whose capabilities have `state`. A call that fails resets it.
   */
  readonly state?: AttentionState
}

/** The same with the keys and values of a cache, contiguous or paged. */
export interface CachedAttentionTensors extends Omit<AttentionTensors, 'k' | 'v'> {
  /** Of q's batch, and of the attention's heads, head_dim, dtype and page size. Not empty. */
  readonly cache: KVCache
}

/** What an attention is called with. */
export type AttentionInput = AttentionTensors | CachedAttentionTensors

export interface AttentionShape {
  readonly batch: number
  readonly queryHeads: number
  readonly kvHeads: number
  readonly queryLength: number
  /** Of a paged cache: keys of its longest sequence. */
  readonly keyLength: number
  readonly headDim: number
}

/** Validated tensors of one call, as a method's program sees them. */
export interface AttentionFrame extends AttentionShape {
  readonly q: Tensor
  readonly k: Tensor
  readonly v: Tensor
  readonly out: Tensor
  readonly lse: Tensor
  readonly causal: boolean
  readonly scale: number
  readonly context: AttentionContext
  /** Keys lie in pages: k and v are [1, Hkv, poolPages · pageSize, D]. Only where the configuration has a `pageSize`. */
  readonly pages?: KeyPages
  /** What this program's `createState` made for the call's state. Only for methods whose capabilities have `state`. */
  readonly state?: MethodState
  /** Scratch of at least `sizeBytes`, free again when the call has been recorded. Contents undefined. */
  scratch(sizeBytes: number): BufferSlice
  /** Memory for an array of the plan, owned by the attention and kept until its next call. Contents undefined. */
  planBuffer(sizeBytes: number): BufferSlice
}

/** A method's compiled form: the five moves as dispatches. Everything it returns only records. */
export interface MethodProgram {
  /** Arrange, estimate and select: dispatches that write the plan. */
  plan(frame: AttentionFrame): { readonly plan: PlanData; readonly dispatches: readonly Dispatch[] }
  /**
   * Attend (and compensate) over that plan: writes every element of `frame.out` and `frame.lse`.
   *
   * @throws UNSUPPORTED for a kind of plan that the program has no kernel for: callers may give plans of other methods
   */
  attend(frame: AttentionFrame, plan: PlanData): readonly Dispatch[]
  /** It attends over plans with a permutation too. Absent: such a plan, given by a caller, is UNSUPPORTED. */
  readonly permutedPlans?: true
  /** A new state, without an entry. Needed where the capabilities have `state`. */
  createState?(): MethodState
  /** Forgets what the program itself keeps from call to call. */
  reset?(): void
  dispose(): void
}

export interface Citation {
  readonly title: string
  readonly authors: string
  readonly year: number
  /** arXiv id, e.g. `2503.16428`. */
  readonly arxiv?: string
  readonly url: string
}

/** How one option is checked, parsed by the command line and described in the docs. */
export type OptionSpec =
  | {
      readonly type: 'number'
      readonly default: number
      readonly min?: number
      readonly max?: number
      readonly integer?: boolean
      readonly description: string
    }
  | {
      readonly type: 'choice'
      readonly default: number | string
      readonly choices: readonly (number | string)[]
      readonly description: string
    }
  | {
      /** A number for all heads, or a table [layer][head]; for all steps, or a table [layer][step]. */
      readonly type: 'per-head' | 'per-step'
      readonly default: number
      readonly min?: number
      readonly max?: number
      readonly description: string
    }

export type OptionValue = number | string | readonly (readonly number[])[]
export type MethodOptions = Readonly<Record<string, OptionValue>>

export interface Capabilities {
  readonly causal: readonly boolean[]
  readonly queryLength: 'one' | 'many' | 'any'
  readonly dtypes: readonly DType[]
  readonly headDim: { readonly multipleOf: number; readonly max: number }
  /** Takes keys in pages, with these options too. Default false. */
  readonly pages?: boolean
  /** Carries state from call to call. Default false. */
  readonly state?: boolean
  /** Whether it takes `context.grid`, whose product is at most key_length. Default 'none': a grid is not looked at. */
  readonly grid?: 'none' | 'optional' | 'required'
  /** How many axes that grid may have. Default 2 and 3. */
  readonly gridAxes?: readonly number[]
  /** Queries and keys are of the same tokens: query_length is key_length. Default false. */
  readonly selfAttention?: boolean
}

export interface MethodDefinition<Options extends MethodOptions> {
  /** The folder's name. */
  readonly id: string
  readonly title: string
  readonly phase: 'any' | 'prefill' | 'decode' | 'diffusion' | 'vision'
  readonly summary: string
  readonly citation: Citation
  readonly options: { readonly [K in keyof Options]-?: OptionSpec }
  readonly capabilities: Capabilities
  /** Options under which the method equals dense attention. */
  readonly neutral: Partial<Options>
  /** Options that keep a density of 0.2–0.5 at this key length, where the paper's defaults would keep everything. */
  scaled(keyLength: number): Partial<Options>
  create(runtime: Runtime, config: CompiledConfig, options: Required<Options>): Promise<MethodProgram>
}

/** A method with its options filled in and checked: what `runtime.use` takes. */
export interface ConfiguredMethod<Options extends MethodOptions = MethodOptions> {
  readonly method: MethodDefinition<Options>
  readonly options: Required<Options>
}

/** `xattention({ threshold: 0.9 })`; the definition is at `xattention.definition`. */
export interface MethodFactory<Options extends MethodOptions = MethodOptions> {
  (options?: Partial<Options>): ConfiguredMethod<Options>
  readonly definition: MethodDefinition<Options>
}
