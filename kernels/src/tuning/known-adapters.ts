import type { AdapterIdentity, DType, Tier } from '@sparse-attention/core'
import type { FlashCall } from '../flash-attention/variants.js'

/** What is known of an adapter without measuring: from runs of `tune` on one. */
export interface KnownAdapter {
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

/** One NVIDIA H100 80GB HBM3, driver 580.159.04, npm webgpu 0.6.2 on Vulkan, 2026-11-22: docs/benchmarks/kernel-notes.md. */
const h100: KnownAdapter = {
  vendor: 'nvidia',
  device: 'nvidia-h100-80gb-hbm3',
  calls: [
    { tier: 'matrix', dtype: 'f16', operationsPerSecond: 1e14, variants: {} },
    { tier: 'matrix', dtype: 'f32', operationsPerSecond: 1.5e13, variants: {} },
    { tier: 'f16', dtype: 'f16', operationsPerSecond: 1.5e13, variants: {} },
    { tier: 'f16', dtype: 'f32', operationsPerSecond: 1.5e13, variants: {} },
    { tier: 'portable', dtype: 'f16', operationsPerSecond: 1.5e13, variants: {} },
    { tier: 'portable', dtype: 'f32', operationsPerSecond: 1.5e13, variants: {} },
  ],
}

export const knownAdapters: readonly KnownAdapter[] = [h100]

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
