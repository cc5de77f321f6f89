import { type AttentionShape, type DType, floatsToHalves, halvesToFloats } from '@sparse-attention/core'
import { Random } from '@sparse-attention/models'

/**
 * - `gaussian`: q, k and v are normal, so attention is spread widely and sparse attention has the least to find;
 * - `stripes`: besides, one key in 128 has a logit about 10 above the others, in every row: what sparse attention is for.
 */
export type InputKind = 'gaussian' | 'stripes'

export const inputKinds: readonly InputKind[] = ['gaussian', 'stripes']

/** Q, K and V of one attention call on the host. Values are exact in `dtype`, in memory order [B, L, H, D]. */
export interface BenchInput extends AttentionShape {
  readonly dtype: DType
  readonly q: Float32Array
  readonly k: Float32Array
  readonly v: Float32Array
}

const keysPerStripe = 128

/** Seeded inputs: equal arguments give equal numbers everywhere. */
export function makeInput(kind: InputKind, shape: AttentionShape, dtype: DType, seed: number): BenchInput {
  const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim } = shape
  const random = new Random(seed)
  const q = gaussians(random, batch * queryLength * queryHeads * headDim)
  const k = gaussians(random, batch * keyLength * kvHeads * headDim)
  const v = gaussians(random, batch * keyLength * kvHeads * headDim)
  if (kind === 'stripes') plantStripes(random, shape, q, k)
  const exact = (values: Float32Array) => (dtype === 'f16' ? halvesToFloats(floatsToHalves(values)) : values)
  return { ...shape, dtype, q: exact(q), k: exact(k), v: exact(v) }
}

/** Some keys of each KV head point where all queries point a little too. */
function plantStripes(
  random: Random,
  { batch, kvHeads, keyLength, headDim }: AttentionShape,
  q: Float32Array,
  k: Float32Array,
): void {
  const direction = gaussians(random, headDim)
  for (let i = 0; i < q.length; i++) q[i]! += direction[i % headDim]!
  const stripes = Math.max(1, Math.round(keyLength / keysPerStripe))
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < kvHeads; h++) {
      for (let n = 0; n < stripes; n++) {
        const at = ((b * keyLength + random.integer(keyLength)) * kvHeads + h) * headDim
        for (let d = 0; d < headDim; d++) k[at + d] = (10 / Math.sqrt(headDim)) * direction[d]!
      }
    }
  }
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
