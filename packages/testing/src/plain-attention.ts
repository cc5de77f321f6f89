import { type DType, floatToHalf, halfToFloat } from '@sparse-attention/core'
import { type AttentionAnswer, type AttentionProblem, forEachRow } from './oracle.js'

const { fround } = Math

/**
 * Two equally plain ways with different rounding errors: sums run forward and exp is the natural one; or they run
 * backward, and the logits are scaled by scale·log₂e for exp2. GPUs have no other exponential than exp2.
 */
export type PlainForm = 'natural' | 'base-2'

/**
 * The same attention as a plain loop in the precision of the dtype: inputs rounded to it, every operation rounded to
 * float32, `out` rounded to the dtype, `lse` left in float32. Its error against float64 is what a kernel's is held to.
 */
export function plainAttention(
  problem: AttentionProblem,
  dtype: DType,
  form: PlainForm = 'natural',
): AttentionAnswer<Float32Array> {
  const { headDim } = problem
  const q = roundTo(dtype, problem.q)
  const k = roundTo(dtype, problem.k)
  const v = roundTo(dtype, problem.v)
  const natural = form === 'natural'
  const scale = fround(natural ? problem.scale : problem.scale * Math.LOG2E)
  const rows = problem.batch * problem.queryHeads * problem.queryLength
  const out = new Float32Array(rows * headDim)
  const lse = new Float32Array(rows).fill(Number.NEGATIVE_INFINITY)
  const scaledQuery = new Float32Array(headDim)
  const logits = new Float32Array(problem.keyLength)
  const sums = new Float32Array(headDim)

  forEachRow(problem, (row, firstKey, keys) => {
    if (!natural) keys.reverse()
    // Scaled before the product, as the kernels do.
    for (let d = 0; d < headDim; d++) scaledQuery[d] = fround(scale * q[row * headDim + d]!)
    let max = Number.NEGATIVE_INFINITY
    for (const j of keys) {
      const logit = dot(scaledQuery, k, (firstKey + j) * headDim, !natural)
      logits[j] = logit
      max = Math.max(max, logit)
    }
    let sum = 0
    sums.fill(0)
    for (const j of keys) {
      const difference = fround(logits[j]! - max)
      const p = fround(natural ? Math.exp(difference) : 2 ** difference)
      sum = fround(sum + p)
      accumulate(sums, p, v, (firstKey + j) * headDim)
    }
    for (let d = 0; d < headDim; d++) out[row * headDim + d] = fround(sums[d]! / sum)
    lse[row] = natural
      ? fround(max + fround(Math.log(sum)))
      : fround(fround(max + fround(Math.log2(sum))) * fround(Math.LN2))
  })
  return { out: dtype === 'f16' ? roundTo('f16', out) : out, lse }
}

// Functions of their own, because engines compile them to float32 instructions only so.

function dot(query: Float32Array, keys: Float32Array, at: number, backward: boolean): number {
  let sum = fround(0)
  const size = query.length
  if (backward) {
    for (let d = size - 1; d >= 0; d--) sum = fround(sum + fround(query[d]! * keys[at + d]!))
  } else {
    for (let d = 0; d < size; d++) sum = fround(sum + fround(query[d]! * keys[at + d]!))
  }
  return sum
}

function accumulate(sums: Float32Array, weight: number, values: Float32Array, at: number): void {
  const p = fround(weight)
  for (let d = 0; d < sums.length; d++) sums[d] = fround(sums[d]! + fround(p * values[at + d]!))
}

/** Values rounded to a dtype, held in float32. */
export function roundTo(dtype: DType, values: ArrayLike<number>): Float32Array {
  const rounded = Float32Array.from(values)
  if (dtype === 'f16') for (let i = 0; i < rounded.length; i++) rounded[i] = halfToFloat(floatToHalf(rounded[i]!))
  return rounded
}
