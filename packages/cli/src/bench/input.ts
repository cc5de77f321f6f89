import { type AttentionShape, type DType, floatsToHalves, halvesToFloats } from '@sparse-attention/core'
import { Random } from '@sparse-attention/models'
import { bands, plantKeys, stripes } from './planted-keys.js'

/**
 * - `gaussian`: q, k and v are normal, so attention is spread widely and sparse attention has the least to find;
 * - `stripes`: besides, one key in 128 has a logit about 10 above the others, in every row: what sparse attention is for;
 * - `bands`: instead, one run of 32 to 128 adjacent keys in 4096 has, which can be kept by blocks.
 */
export type InputKind = 'gaussian' | 'stripes' | 'bands'

export const inputKinds: readonly InputKind[] = ['gaussian', 'stripes', 'bands']

/** Q, K and V of one attention call on the host. Values are exact in `dtype`, in memory order [B, L, H, D]. */
export interface BenchInput extends AttentionShape {
  readonly dtype: DType
  readonly q: Float32Array
  readonly k: Float32Array
  readonly v: Float32Array
}

/** Seeded inputs: equal arguments give equal numbers everywhere. */
export function makeInput(kind: InputKind, shape: AttentionShape, dtype: DType, seed: number): BenchInput {
  const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim } = shape
  const random = new Random(seed)
  const q = gaussians(random, batch * queryLength * queryHeads * headDim)
  const k = gaussians(random, batch * keyLength * kvHeads * headDim)
  const v = gaussians(random, batch * keyLength * kvHeads * headDim)
  if (kind !== 'gaussian') plantKeys(random, shape, { q, k }, gaussians(random, headDim), { stripes, bands }[kind])
  const exact = (values: Float32Array) => (dtype === 'f16' ? halvesToFloats(floatsToHalves(values)) : values)
  return { ...shape, dtype, q: exact(q), k: exact(k), v: exact(v) }
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
