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

/** Of the kernels with subgroups, which the tier `matrix` has too, for what matrices do not take. */
const h100Subgroups = {
  f16: {
    32: 'portable, slices 1, keys 32, step 8',
    80: 'portable, slices 1, keys 16, step 4',
    96: 'subgroup, rows 2, keys 32, step 8',
    128: 'subgroup, rows 2, keys 16, step 8',
    256: 'subgroup, rows 1, keys 8, step 4',
  },
  f32: {
    32: 'portable, slices 1, keys 32, step 8',
    80: 'subgroup, rows 2, keys 32, step 8',
    96: 'subgroup, rows 2, keys 32, step 8',
    128: 'subgroup, rows 2, keys 16, step 8',
    256: 'subgroup, rows 1, keys 8, step 4',
  },
}

/** One NVIDIA H100 80GB HBM3, driver 580.159.04, npm webgpu 0.6.2 on Vulkan, 2026-11-22: docs/benchmarks/kernel-notes.md. */
const h100: KnownAdapter = {
  vendor: 'nvidia',
  device: 'nvidia-h100-80gb-hbm3',
  calls: [
    { tier: 'matrix', dtype: 'f16', operationsPerSecond: 1e14, variants: {} },
    { tier: 'matrix', dtype: 'f32', operationsPerSecond: 1.1e13, variants: h100Subgroups.f32 },
    { tier: 'f16', dtype: 'f16', operationsPerSecond: 1.1e13, variants: h100Subgroups.f16 },
    { tier: 'f16', dtype: 'f32', operationsPerSecond: 1.1e13, variants: h100Subgroups.f32 },
    {
      tier: 'portable',
      dtype: 'f16',
      operationsPerSecond: 1.5e13,
      variants: {
        32: 'portable, slices 1, keys 32, step 8',
        80: 'portable, slices 1, keys 16, step 4',
        128: 'portable, slices 2, keys 16, step 8',
        256: 'portable, slices 4, keys 8, step 8',
      },
    },
    {
      tier: 'portable',
      dtype: 'f32',
      operationsPerSecond: 1.5e13,
      variants: {
        80: 'portable, slices 1, keys 16, step 4',
        96: 'portable, slices 2, keys 16, step 8',
        128: 'portable, slices 2, keys 16, step 4',
        256: 'portable, slices 4, keys 8, step 8',
      },
    },
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
