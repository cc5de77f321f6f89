import type { InputKind } from '@sparse-attention/compare'
import type { AttentionShape, DType, HostPlan, OptionValue } from '@sparse-attention/core'
import type { DeviceInfo } from '../shell/device.js'

/** Tensors that are made up from a seed. */
export interface MadeUpInput extends AttentionShape {
  readonly from: 'made-up'
  readonly kind: InputKind
  readonly seed: number
  readonly dtype: DType
  readonly causal: boolean
  /** Where the tokens lie; undefined: nowhere. */
  readonly grid: readonly number[] | undefined
}

/** Tensors of one layer of the language model that the site ships, reading a stretch of a book. */
export interface CapturedInput {
  readonly from: 'captured'
  readonly length: number
  readonly seed: number
  readonly layer: number
}

/** Tensors of a safetensors file. */
export interface FileInput {
  readonly from: 'file'
  readonly file: File
  readonly causal: boolean
  readonly grid: readonly number[] | undefined
}

export type InputChoice = MadeUpInput | CapturedInput | FileInput

/** A method with all of its options. */
export interface MethodChoice {
  readonly id: string
  readonly options: Readonly<Record<string, OptionValue>>
}

export interface CompareRequest {
  readonly input: InputChoice
  readonly methods: readonly MethodChoice[]
  /** Timed runs of each. */
  readonly runs: number
}

export interface ComparedMethod extends MethodChoice {
  /** What ran. */
  readonly path: 'sparse' | 'dense'
  readonly density: number
  /** [B · Hq] */
  readonly headDensities: readonly number[]
  readonly recall: number
  readonly relativeError: number
  readonly medianMs: number
  readonly plan: HostPlan
}

export interface CompareResult {
  readonly device: DeviceInfo
  readonly shape: AttentionShape & { readonly dtype: DType; readonly causal: boolean }
  /** Dense, which the others are measured against. */
  readonly denseMs: number
  readonly methods: readonly ComparedMethod[]
}

export interface BenchRequest {
  readonly kind: InputKind
  readonly seed: number
  readonly shape: Omit<AttentionShape, 'queryLength' | 'keyLength'>
  readonly dtype: DType
  readonly causal: boolean
  readonly lengths: readonly number[]
  /** What was chosen of their options; the rest are their budgets for a length. */
  readonly methods: readonly MethodChoice[]
  readonly samples: number
}

/** What this machine is, and what the model that is captured from has. */
export interface Opened {
  readonly device: DeviceInfo
  readonly model: { readonly layers: number; readonly maxLength: number; readonly headDim: number }
}
