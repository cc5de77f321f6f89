import { type AttentionShape, type DType, floatsToHalves, halvesToFloats, Random } from '@sparse-attention/core'
import { bands, plantKeys, stripes } from './planted-keys.js'

/**
 * - `gaussian`: q, k and v are normal, so attention is spread widely and sparse attention has the least to find;
 * - `stripes`: besides, one key in 128 has a logit about 10 above the others, in every row: what sparse attention is for;
 * - `bands`: instead, one run of 32 to 128 adjacent keys in 4096 has, which can be kept by blocks;
 * - `patches`: queries and keys of each fourteenth of a grid's sides have a vector in common, as parts of an image do.
 */
export type InputKind = 'gaussian' | 'stripes' | 'bands' | 'patches'

export const inputKinds: readonly InputKind[] = ['gaussian', 'stripes', 'bands', 'patches']

/** Q, K and V of one attention call on the host. Values are exact in `dtype`, in memory order [B, L, H, D]. */
export interface BenchInput extends AttentionShape {
  readonly dtype: DType
  readonly q: Float32Array
  readonly k: Float32Array
  readonly v: Float32Array
}

/**
 * Seeded inputs: equal arguments give equal numbers everywhere.
 *
 * @param grid where the tokens lie; without one, patches are of a line
 */
export function makeInput(
  kind: InputKind,
  shape: AttentionShape,
  dtype: DType,
  seed: number,
  grid: readonly number[] = [shape.keyLength],
): BenchInput {
  const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim } = shape
  const random = new Random(seed)
  const q = gaussians(random, batch * queryLength * queryHeads * headDim)
  const k = gaussians(random, batch * keyLength * kvHeads * headDim)
  const v = gaussians(random, batch * keyLength * kvHeads * headDim)
  if (kind === 'patches') addPatches(random, shape, { q, k }, grid)
  else if (kind !== 'gaussian') plantKeys(random, shape, { q, k }, gaussians(random, headDim), { stripes, bands }[kind])
  const exact = (values: Float32Array) => (dtype === 'f16' ? halvesToFloats(floatsToHalves(values)) : values)
  return { ...shape, dtype, q: exact(q), k: exact(k), v: exact(v) }
}

/** Parts of each side of a grid that have something in common. */
const patchesPerSide = 14

/** Of that, in deviations of a normal number. */
const patchScale = 1.5

function addPatches(
  random: Random,
  { batch, queryHeads, kvHeads, keyLength, headDim }: AttentionShape,
  { q, k }: { readonly q: Float32Array; readonly k: Float32Array },
  grid: readonly number[],
): void {
  const common = gaussians(random, patchesPerSide ** grid.length * headDim)
  for (const [values, heads] of [
    [q, queryHeads],
    [k, kvHeads],
  ] as const) {
    for (let at = 0; at < batch * keyLength; at++) {
      const from = patchOf(at % keyLength, grid) * headDim
      for (let i = 0; i < heads * headDim; i++)
        values[at * heads * headDim + i]! += patchScale * common[from + (i % headDim)]!
    }
  }
}

function patchOf(token: number, grid: readonly number[]): number {
  let [patch, rest, stride] = [0, token, 1]
  for (const size of grid.toReversed()) {
    patch += Math.floor(((rest % size) * patchesPerSide) / size) * stride
    rest = Math.floor(rest / size)
    stride *= patchesPerSide
  }
  return patch
}

/** How many tokens a grid has. */
export function tokensOf(grid: readonly number[]): number {
  return grid.reduce((product, size) => product * size, 1)
}

/** Standard normal numbers, by Box and Muller. */
function gaussians(random: Random, count: number): Float32Array {
  const values = new Float32Array(count)
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - random.fraction()))
    const angle = 2 * Math.PI * random.fraction()
    values[i] = radius * Math.cos(angle)
    if (i + 1 < count) values[i + 1] = radius * Math.sin(angle)
  }
  return values
}
