import { SparseAttentionError } from './errors.js'

/** `matrix`: subgroup matrices + f16. `f16`: shader-f16 + subgroups. `portable`: plain WebGPU, f32 math. */
export type Tier = 'matrix' | 'f16' | 'portable'

export const tiers: readonly Tier[] = ['matrix', 'f16', 'portable']

/** Tiers that this version has kernels for. */
export const implementedTiers: readonly Tier[] = ['matrix', 'f16', 'portable']

/** Not in the WebGPU type library yet. */
export const subgroupMatrixFeature = 'chromium-experimental-subgroup-matrix'

interface SubgroupMatrixConfig {
  readonly componentType: string
  readonly resultComponentType: string
  readonly M: number
  readonly N: number
  readonly K: number
}

export interface TierReport {
  readonly tier: Tier
  /** The device offers what the tier needs. */
  readonly offered: boolean
  /** This version has kernels for it. */
  readonly implemented: boolean
  /** What the device lacks, in words; empty when offered. */
  readonly missing: readonly string[]
}

/**
 * What a device offers of each tier. A shared device has the features its creator asked for, so this looks at the
 * device, not at the adapter.
 *
 * @param matrixSyntax  what `knowsMatrixSyntax` found
 */
export function reportTiers(
  device: Pick<GPUDevice, 'features'>,
  info: GPUAdapterInfo | undefined,
  matrixSyntax = true,
): TierReport[] {
  const has = (feature: string) => device.features.has(feature as GPUFeatureName)
  const f16Missing = ['shader-f16', 'subgroups'].filter((f) => !has(f)).map((f) => `feature ${f}`)
  const matrixMissing = [...f16Missing]
  if (!has(subgroupMatrixFeature)) matrixMissing.push(`feature ${subgroupMatrixFeature}`)
  else {
    if (!hasUsableMatrixShape(info)) matrixMissing.push('f16 matrices of 16×16×16 with f32 results')
    if (!matrixSyntax) matrixMissing.push('the syntax of subgroup matrices with majorness as a template parameter')
    // Kernels divide rows among the lanes of a subgroup.
    if (info?.subgroupMinSize !== 32 || info?.subgroupMaxSize !== 32) matrixMissing.push('subgroups of 32 lanes each')
  }
  const missing: Record<Tier, string[]> = { matrix: matrixMissing, f16: f16Missing, portable: [] }
  return tiers.map((tier) => ({
    tier,
    offered: missing[tier].length === 0,
    implemented: implementedTiers.includes(tier),
    missing: missing[tier],
  }))
}

/** Earlier versions of the experimental extension took majorness as an argument: their compilers refuse our kernels. */
export async function knowsMatrixSyntax(device: GPUDevice): Promise<boolean> {
  if (!['shader-f16', 'subgroups', subgroupMatrixFeature].every((f) => device.features.has(f as GPUFeatureName))) {
    return false
  }
  device.pushErrorScope('validation')
  device.createShaderModule({
    label: 'subgroup matrix syntax',
    code: `\
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
var<workgroup> tile: array<vec4<u32>, 32>;
@compute @workgroup_size(32)
fn main() { let matrix = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&tile, 0u, 2u); }`,
  })
  return (await device.popErrorScope()) === null
}

/** A tier is a shape, not a feature bit: a 16×16 kernel passes every feature test on an 8×8 device and fails later. */
function hasUsableMatrixShape(info: GPUAdapterInfo | undefined): boolean {
  const configs = (info as { subgroupMatrixConfigs?: readonly SubgroupMatrixConfig[] } | undefined)
    ?.subgroupMatrixConfigs
  return [...(configs ?? [])].some(
    (c) => c.componentType === 'f16' && c.resultComponentType === 'f32' && c.M === 16 && c.N === 16 && c.K === 16,
  )
}

/**
 * The best offered tier that has kernels, or the one asked for.
 *
 * @throws TIER_UNAVAILABLE when the tier asked for is not offered or has no kernels
 */
export function chooseTier(reports: readonly TierReport[], wanted: Tier | 'auto'): Tier {
  if (wanted === 'auto') return reports.find((r) => r.offered && r.implemented)!.tier
  const report = reports.find((r) => r.tier === wanted)
  if (!report) {
    throw new SparseAttentionError('INVALID_OPTION', {
      message: `There is no tier '${wanted}'.`,
      fix: `Use one of auto, ${tiers.join(', ')}.`,
      where: 'tier',
    })
  }
  if (!report.offered || !report.implemented) {
    const reason = report.offered
      ? `this version has kernels for ${implementedTiers.join(', ')} only`
      : `the device lacks ${report.missing.join(' and ')}`
    throw new SparseAttentionError('TIER_UNAVAILABLE', {
      message: `Tier '${wanted}' was forced, but ${reason}.`,
      fix: "Use tier 'auto', or a device that offers it.",
      where: 'tier',
    })
  }
  return wanted
}
