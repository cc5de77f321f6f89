import type { AttentionConfig, KernelSource, Runtime } from '@sparse-attention/core'
import { emitMatrix } from './matrix/emit.js'
import { defaultMatrixForms, type MatrixForm, matrixFormSets } from './matrix/forms.js'
import { hasMatrixKernel } from './matrix/geometry.js'
import { type FlashAttentionOptions, ROWS } from './options.js'
import { emitPortable, type PortableTiling, portableSlice, portableTiling } from './portable.js'
import { emitSubgroup, type SubgroupTiling, subgroupSlice, subgroupTiling } from './subgroup.js'

/** One way to compute flash attention, as data. All of a tier give the same results, up to rounding. */
export type FlashVariant =
  | ({ readonly emitter: 'portable' } & PortableTiling)
  | ({ readonly emitter: 'subgroup' } & SubgroupTiling)
  | { readonly emitter: 'matrix'; readonly forms: readonly MatrixForm[] }

/** What variants are for: the kind of call. */
export type FlashCall = Pick<AttentionConfig, 'dtype' | 'headDim' | 'causal'>

/** What tuning tables call a variant. */
export function variantName(variant: FlashVariant): string {
  switch (variant.emitter) {
    case 'portable':
      return `portable, slices ${variant.slices}, keys ${variant.tileKeys}, step ${variant.step}`
    case 'subgroup':
      return `subgroup, rows ${variant.rowsPerLane}, keys ${variant.tileKeys}, step ${variant.step}`
    case 'matrix':
      return `matrix, ${variant.forms.map(formName).join(', ')}`
  }
}

/** All of a geometry: two that differ must not have one name. */
function formName({ rows, workgroups, ...others }: MatrixForm): string {
  const details = Object.entries(others).map(([name, value]) => `${name} ${value}`)
  return `${rows} rows${workgroups > 0 ? ` from ${workgroups} workgroups` : ''} (${details.join(' ')})`
}

/** What runs where nothing better is known. */
export function defaultVariant({ tier }: Pick<Runtime, 'tier'>, { dtype, headDim }: FlashCall): FlashVariant {
  if (tier === 'portable') return { emitter: 'portable', ...portableTiling(headDim) }
  if (tier === 'matrix' && hasMatrixKernel(dtype, headDim)) {
    return { emitter: 'matrix', forms: defaultMatrixForms(headDim) }
  }
  return { emitter: 'subgroup', ...subgroupTiling(headDim) }
}

/** All variants for a tier and a call, the default first and then the most promising. A device may have no room for some. */
export function flashVariants(runtime: Pick<Runtime, 'tier'>, call: FlashCall): readonly FlashVariant[] {
  const usual = defaultVariant(runtime, call)
  const others: FlashVariant[] =
    usual.emitter === 'matrix'
      ? matrixFormSets(call.headDim).map((forms) => ({ emitter: 'matrix', forms }))
      : usual.emitter === 'portable'
        ? portableVariants(call.headDim)
        : // Where rows have few slices there are few partial products to add, which is what subgroups are for.
          [...portableVariants(call.headDim).slice(0, 2), ...subgroupVariants(call.headDim)]
  const byName = new Map([usual, ...others].map((variant) => [variantName(variant), variant]))
  return [...byName.values()]
}

/** The kernels of a variant: of `matrix` one for each form, in their order. */
export function emitVariant(
  { subgroupMatrix }: Pick<Runtime, 'subgroupMatrix'>,
  variant: FlashVariant,
  options: FlashAttentionOptions,
): readonly KernelSource[] {
  switch (variant.emitter) {
    case 'portable':
      return [emitPortable(options, variant)]
    case 'subgroup':
      return [emitSubgroup(options, variant)]
    case 'matrix':
      return variant.forms.map((geometry) => emitMatrix({ ...options, geometry, subgroupMatrix: subgroupMatrix! }))
  }
}

/** Whether a device has room for a workgroup of the kernel. */
export function fitsDevice(
  { device }: Pick<Runtime, 'device'>,
  { workgroupBytes, workgroupSize }: KernelSource,
): boolean {
  const { maxComputeWorkgroupStorageSize, maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX } = device.limits
  return (
    workgroupBytes <= maxComputeWorkgroupStorageSize &&
    workgroupSize <= Math.min(maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX)
  )
}

/** Elements of q, and as many of the accumulator, that an invocation can hold in registers. */
const MOST_ELEMENTS = 96

/** In bytes: more of it leaves too few workgroups on a multiprocessor. */
const MOST_TILE_BYTES = 24 * 1024

/** Some times as many keys as usual, and many or few a step: the more promising first. */
function tiles(usual: number, elements: number, times: readonly number[]): { tileKeys: number; step: number }[] {
  return times
    .map((n) => n * usual)
    .filter((keys) => keys === usual || (keys <= 32 && 8 * keys * elements <= MOST_TILE_BYTES))
    .flatMap((tileKeys) => [8, 4].filter((step) => step <= tileKeys).map((step) => ({ tileKeys, step })))
}

function portableVariants(headDim: number): FlashVariant[] {
  const { slices: usual, tileKeys } = portableTiling(headDim)
  // With fewer slices there are fewer partial products to add, or none.
  const slices = [usual - 1, usual].filter(
    (n) => n > 0 && n * ROWS <= 256 && portableSlice(headDim, n) <= MOST_ELEMENTS,
  )
  return slices.flatMap((n) =>
    tiles(tileKeys, usual * portableSlice(headDim, usual), [2, 1]).map(
      (tile) => ({ emitter: 'portable', slices: n, ...tile }) as const,
    ),
  )
}

function subgroupVariants(headDim: number): FlashVariant[] {
  const slice = subgroupSlice(headDim)
  const { rowsPerLane: usual, tileKeys } = subgroupTiling(headDim)
  const variants = (rowsPerLane: number, times: readonly number[]) =>
    tiles(tileKeys, 4 * slice, times).map((tile) => ({ emitter: 'subgroup', rowsPerLane, ...tile }) as const)
  // More rows would not fit the registers.
  return [...variants(usual, [2, 1, 4]), ...(usual > 1 ? variants(usual / 2, [2]) : [])]
}
