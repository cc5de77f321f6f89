import type { AdapterIdentity, DType, Tier } from '@sparse-attention/core'
import type { FlashCall } from '../flash-attention/variants.js'

/** What is known of an adapter without measuring: from runs of `tune` on one. */
interface KnownAdapter {
  readonly vendor: string
  readonly device: string
  /** By tier and dtype: the slowest head_dim's operations a second, and the variants that won. */
  readonly calls: readonly {
    readonly tier: Tier
    readonly dtype: DType
    readonly operationsPerSecond: number
    readonly variants: Readonly<Record<number, string>>
  }[]
}

const knownAdapters: readonly KnownAdapter[] = []

/** Undefined for an adapter, or a kind of call, of which nothing is known. */
export function knownVariant(
  { vendor, device }: AdapterIdentity,
  tier: Tier,
  { dtype, headDim }: FlashCall,
): { readonly variant?: string; readonly operationsPerSecond: number } | undefined {
  const adapter = knownAdapters.find((known) => known.vendor === vendor && known.device === device)
  const call = adapter?.calls.find((known) => known.tier === tier && known.dtype === dtype)
  if (!call) return undefined
  const variant = call.variants[headDim]
  return { operationsPerSecond: call.operationsPerSecond, ...(variant !== undefined && { variant }) }
}
