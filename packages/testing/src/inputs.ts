import type { AttentionShape, DType } from '@sparse-attention/core'
import { roundTo } from './plain-attention.js'
import { createRandom, type Random } from './random.js'

/** What q, k and v hold. */
export const inputKinds = [
  'gaussian',
  'zero-queries',
  'identical-keys',
  'needle',
  'stripes',
  'diagonals',
  'huge-logits',
  'f16-extremes',
  'integers',
] as const

export type InputKind = (typeof inputKinds)[number]

/** Contiguous tensors, rounded to the dtype. Axes as in `ReferenceInput`. */
export interface Inputs {
  readonly q: Float64Array
  readonly k: Float64Array
  readonly v: Float64Array
}

/** Fills q and k; v is gaussian before. `at` is the index of element 0 of a token of a head. */
type Fill = (problem: {
  readonly shape: AttentionShape
  readonly random: Random
  readonly q: Float64Array
  readonly k: Float64Array
  readonly v: Float64Array
}) => void

/**
 * Seeded inputs of one kind:
 *
 * - `gaussian`: logits about normal, attention spread widely;
 * - `zero-queries`, `identical-keys`: every score ties;
 * - `needle`: one key of each head has a logit about 10 above the rest, in every row;
 * - `stripes`: a few keys of each head do; `diagonals`: keys at a few fixed distances do;
 * - `huge-logits`: up to about ±100 at the default scale, so exp over- and underflows unless the maximum is taken off;
 * - `f16-extremes`: ±65504, the largest half, and the smallest ones. Scores are exact in float32 if the scale is a power
 *   of two: use `scaleFor`;
 * - `integers`: from −2 to 2 (v: −8 to 8), so scores are exact before they are scaled.
 */
export function makeInputs(kind: InputKind, shape: AttentionShape, dtype: DType, seed: number): Inputs {
  const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim } = shape
  const random = createRandom(seed)
  const q = new Float64Array(batch * queryHeads * queryLength * headDim)
  const k = new Float64Array(batch * kvHeads * keyLength * headDim)
  const v = Float64Array.from(k, () => random.gaussian())
  fills[kind]({ shape, random, q, k, v })
  const rounded = (values: Float64Array) => Float64Array.from(roundTo(dtype, values))
  return { q: rounded(q), k: rounded(k), v: rounded(v) }
}

/** The scale to use with inputs of a kind: the default one, except where only a power of two keeps scores exact. */
export function scaleFor(kind: InputKind, headDim: number): number {
  return kind === 'f16-extremes' ? 1 / 8 : 1 / Math.sqrt(headDim)
}

const fills: Readonly<Record<InputKind, Fill>> = {
  gaussian: ({ q, k, random }) => {
    fill(q, () => random.gaussian())
    fill(k, () => random.gaussian())
  },
  'zero-queries': ({ k, random }) => fill(k, () => random.gaussian()),
  'identical-keys': ({ q, k, shape: { headDim }, random }) => {
    fill(q, () => random.gaussian())
    const key = Float64Array.from({ length: headDim }, () => random.gaussian())
    fill(k, (i) => key[i % headDim]!)
  },
  needle: ({ q, k, shape, random }) => plantKeys(q, k, shape, random, 1),
  stripes: ({ q, k, shape, random }) => plantKeys(q, k, shape, random, 3),
  diagonals: ({ q, k, shape, random }) => {
    const { queryLength, keyLength, headDim } = shape
    // A code for each position; a key wears its own, a query those of the positions at fixed distances behind it.
    const codes = Float64Array.from({ length: keyLength * headDim }, () => random.gaussian())
    const distances = [
      0,
      random.integer(1, Math.max(1, keyLength >> 2)),
      random.integer(1, Math.max(1, keyLength >> 1)),
    ]
    fill(k, (i) => codes[i % (keyLength * headDim)]! + 0.1 * random.gaussian())
    fill(q, (i) => {
      const position = (Math.floor(i / headDim) % queryLength) + keyLength - queryLength
      let sum = 0.1 * random.gaussian()
      for (const distance of distances) {
        const from = position - distance
        if (from >= 0) sum += (10 / Math.sqrt(headDim)) * codes[from * headDim + (i % headDim)]!
      }
      return sum
    })
  },
  'huge-logits': ({ q, k, random }) => {
    // Logits are normal with deviation 6² = 36: a few thousand of them reach ±100.
    fill(q, () => 6 * random.gaussian())
    fill(k, () => 6 * random.gaussian())
  },
  'f16-extremes': ({ q, k, v, shape: { headDim }, random }) => {
    // One large element a token. Products have 11 bits, so float32 holds their sums in any order.
    const plant = (values: Float64Array, size: number) => {
      for (let at = 0; at < values.length; at += headDim) {
        values[at + random.integer(0, 7)] = random.uniform() < 0.5 ? -size : size
      }
    }
    plant(q, 65504)
    plant(k, 2 ** 15)
    const values = [65504, -65504, 2 ** -14, 2 ** -24, 1, 0]
    fill(v, () => values[random.integer(0, values.length - 1)]!)
  },
  integers: ({ q, k, v, random }) => {
    fill(q, () => random.integer(-2, 2))
    fill(k, () => random.integer(-2, 2))
    fill(v, () => random.integer(-8, 8))
  },
}

/** Gaussian, and `count` keys of each KV head that point where all of its queries point too. */
function plantKeys(q: Float64Array, k: Float64Array, shape: AttentionShape, random: Random, count: number): void {
  const { batch, kvHeads, keyLength, headDim } = shape
  const direction = Float64Array.from({ length: headDim }, () => random.gaussian())
  fill(q, (i) => random.gaussian() + direction[i % headDim]!)
  fill(k, () => random.gaussian())
  for (let head = 0; head < batch * kvHeads; head++) {
    for (let n = 0; n < count; n++) {
      const at = (head * keyLength + random.integer(0, keyLength - 1)) * headDim
      for (let d = 0; d < headDim; d++) k[at + d] = (10 / Math.sqrt(headDim)) * direction[d]!
    }
  }
}

function fill(values: Float64Array, value: (index: number) => number): void {
  for (let i = 0; i < values.length; i++) values[i] = value(i)
}
