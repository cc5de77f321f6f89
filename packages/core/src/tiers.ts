import { SparseAttentionError } from './errors.js'

/** `matrix`: subgroup matrices + f16. `f16`: shader-f16 + subgroups. `portable`: plain WebGPU, f32 math. */
export type Tier = 'matrix' | 'f16' | 'portable'

export const tiers: readonly Tier[] = ['matrix', 'f16', 'portable']

/** Tiers that this version has kernels for. */
export const implementedTiers: readonly Tier[] = ['matrix', 'f16', 'portable']

/** Not in the WebGPU type library yet. */
export const subgroupMatrixFeature = 'chromium-experimental-subgroup-matrix'

/**
 * How subgroup matrices are written, and how large they are: f16 operands of M×K and K×N, f32 results of M×N.
 *
 * The extension is an experiment that has changed: `template`, the present form, has majorness as a template parameter, and
 * takes memory of any type; `argument` has it as an argument, and takes only arrays of a matrix's own components.
 */
export interface SubgroupMatrix {
  readonly syntax: SubgroupMatrixSyntax
  readonly M: number
  readonly N: number
  readonly K: number
}

export type SubgroupMatrixSyntax = 'template' | 'argument'

/** Shapes that there are kernels for, the best first: NVIDIA offers the first three, Apple the last. */
const matrixShapes = [
  { M: 16, N: 16, K: 16 },
  { M: 16, N: 8, K: 16 },
  { M: 16, N: 8, K: 8 },
  { M: 8, N: 8, K: 8 },
] as const

/** An entry of `GPUAdapterInfo.subgroupMatrixConfigs`. */
interface OfferedShape {
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
 * @param matrixSyntax  what `findMatrixSyntax` found
 */
export function reportTiers(
  device: Pick<GPUDevice, 'features'>,
  info: GPUAdapterInfo | undefined,
  matrixSyntax: SubgroupMatrixSyntax | undefined,
): TierReport[] {
  const has = (feature: string) => device.features.has(feature as GPUFeatureName)
  const f16Missing = ['shader-f16', 'subgroups'].filter((f) => !has(f)).map((f) => `feature ${f}`)
  const matrixMissing = [...f16Missing]
  if (!has(subgroupMatrixFeature)) matrixMissing.push(`feature ${subgroupMatrixFeature}`)
  else {
    if (!matrixShape(info)) {
      const shapes = matrixShapes.map(({ M, N, K }) => `${M}×${N}×${K}`)
      matrixMissing.push(`f16 matrices of ${shapes.join(' or ')} with f32 results`)
    }
    if (!matrixSyntax) matrixMissing.push('a syntax of subgroup matrices that this version knows')
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

const syntaxProbes: Readonly<Record<SubgroupMatrixSyntax, string>> = {
  template: `\
var<workgroup> tile: array<vec4<u32>, 32>;
@compute @workgroup_size(32)
fn main() { let matrix = subgroupMatrixLoad<subgroup_matrix_left<f16, 8, 8>, row_major>(&tile, 0u, 1u); }`,
  argument: `\
var<workgroup> tile: array<f16, 64>;
@compute @workgroup_size(32)
fn main() { let matrix = subgroupMatrixLoad<subgroup_matrix_left<f16, 8, 8>>(&tile, 0u, false, 8u); }`,
}

/** Which syntax of subgroup matrices the device's compiler takes: earlier versions refuse the present one. */
export async function findMatrixSyntax(device: GPUDevice): Promise<SubgroupMatrixSyntax | undefined> {
  if (!['shader-f16', 'subgroups', subgroupMatrixFeature].every((f) => device.features.has(f as GPUFeatureName))) {
    return undefined
  }
  for (const syntax of ['template', 'argument'] as const) {
    device.pushErrorScope('validation')
    device.createShaderModule({
      label: `subgroup matrix syntax: ${syntax}`,
      code: `\
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
${syntaxProbes[syntax]}`,
    })
    if ((await device.popErrorScope()) === null) return syntax
  }
  return undefined
}

/**
 * The best shape that the device offers. A tier is a shape, not a feature bit: a 16×16 kernel passes every feature test on an
 * 8×8 device and fails later.
 */
export function matrixShape(info: GPUAdapterInfo | undefined): Omit<SubgroupMatrix, 'syntax'> | undefined {
  const offered = (info as { subgroupMatrixConfigs?: Iterable<OfferedShape> } | undefined)?.subgroupMatrixConfigs ?? []
  const usable = [...offered].filter((c) => c.componentType === 'f16' && c.resultComponentType === 'f32')
  return matrixShapes.find(({ M, N, K }) => usable.some((c) => c.M === M && c.N === N && c.K === K))
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
