import { type AdapterIdentity, findTuning, type Runtime } from '@sparse-attention/core'
import {
  defaultVariant,
  emitVariant,
  type FlashCall,
  type FlashVariant,
  flashVariants,
  variantName,
} from '../flash-attention/variants.js'
import { knownVariant } from './known-adapters.js'

/** Flash attention's name in tuning tables. */
export const FLASH_ATTENTION = 'flash-attention'

export interface ChosenVariant {
  readonly variant: FlashVariant
  /** What it does on this adapter, where that is known. */
  readonly operationsPerSecond?: number
}

/** What a choice depends on. */
export type TunedRuntime = Pick<Runtime, 'tier' | 'tuning' | 'subgroupMatrix'> & { readonly identity: AdapterIdentity }

/**
 * The variant that runs: from the runtime's tuning, else from what is known of the adapter, else the default. Looks up, never
 * measures. Names that are not among the call's variants, and results for sources that have changed since, count for nothing.
 */
export function chooseVariant(runtime: TunedRuntime, call: FlashCall): ChosenVariant {
  const { dtype, headDim, causal } = call
  const query = { kernel: FLASH_ATTENTION, adapter: runtime.identity, tier: runtime.tier, dtype, headDim, causal }
  const entry = runtime.tuning && findTuning(runtime.tuning, query)
  const tuned = entry && namedVariant(runtime, call, entry.variant)
  if (entry && tuned && entry.sources === sourcesHash(runtime, call, tuned)) {
    return { variant: tuned, operationsPerSecond: entry.operationsPerSecond }
  }
  const known = knownVariant(runtime.identity, runtime.tier, call)
  const usual = defaultVariant(runtime, call)
  if (!known) return { variant: usual }
  return {
    variant: known.variant === undefined ? usual : (namedVariant(runtime, call, known.variant) ?? usual),
    operationsPerSecond: known.operationsPerSecond,
  }
}

function namedVariant(runtime: TunedRuntime, call: FlashCall, name: string): FlashVariant | undefined {
  return flashVariants(runtime, call).find((variant) => variantName(variant) === name)
}

/** Of the kernels of a variant and of the default that it was compared with, as they are emitted now. */
export function sourcesHash(
  runtime: Pick<Runtime, 'tier' | 'subgroupMatrix'>,
  call: FlashCall,
  variant: FlashVariant,
): string {
  const { dtype, headDim, causal } = call
  const code = [defaultVariant(runtime, call), variant]
    .flatMap((each) => emitVariant(runtime, each, { dtype, headDim, causal, plan: 'block' }))
    .map((source) => source.code)
    .join('\0')
  return hash(code)
}

/** FNV-1a in two lanes of 32 bits: tells versions of a text apart, and withstands nobody who means harm. */
function hash(text: string): string {
  let [a, b] = [0x811c9dc5, 0x9e3779b9]
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    a = Math.imul(a ^ code, 0x01000193)
    b = Math.imul(b ^ code, 0x85ebca6b)
  }
  return [a, b].map((lane) => (lane >>> 0).toString(16).padStart(8, '0')).join('')
}
