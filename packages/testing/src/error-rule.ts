import type { DType } from '@sparse-attention/core'
import { type AttentionAnswer, type AttentionProblem, attentionOracle } from './oracle.js'
import { type PlainForm, plainAttention } from './plain-attention.js'

/** Error of a computation against float64, in units in the last place of what was summed. */
export interface ErrorInUlps {
  readonly max: number
  readonly rms: number
  /** Index of the element with the largest error. */
  readonly worst: number
}

/** A unit in the last place is this share of a number; below the smallest normal number it stays the same. */
const precision: Readonly<Record<DType, { epsilon: number; smallestNormal: number }>> = {
  f32: { epsilon: 2 ** -23, smallestNormal: 2 ** -126 },
  f16: { epsilon: 2 ** -10, smallestNormal: 2 ** -14 },
}

/** The few ulp that a kernel may add to twice the plain error. */
const allowance: Readonly<Record<DType, number>> = {
  f32: 8, // WGSL lets exp be off by 3 ulp and more, a division by 2.5
  f16: 1, // sums are in float32, so the last rounding is all there is, half an ulp on both sides
}

/**
 * Errors of `actual`, in ulp of the magnitude that was summed for each element. Where the exact answer is finite, NaN
 * and ±∞ count as an infinite error; where it is −∞ or NaN, anything else does.
 */
export function errorInUlps(
  actual: ArrayLike<number>,
  exact: ArrayLike<number>,
  magnitude: ArrayLike<number>,
  dtype: DType,
): ErrorInUlps {
  if (actual.length !== exact.length) throw new Error(`${actual.length} elements, expected ${exact.length}`)
  const { epsilon, smallestNormal } = precision[dtype]
  let max = 0
  let worst = 0
  let squares = 0
  for (let i = 0; i < exact.length; i++) {
    let error: number
    if (Number.isFinite(exact[i]) && Number.isFinite(actual[i])) {
      // An implementation may take subnormal numbers for zero.
      const difference = Math.max(0, Math.abs(actual[i]! - exact[i]!) - smallestNormal)
      error = difference / (Math.max(magnitude[i]!, smallestNormal) * epsilon)
    } else {
      error = Object.is(actual[i], exact[i]) ? 0 : Number.POSITIVE_INFINITY
    }
    squares += error * error
    if (error > max) {
      max = error
      worst = i
    }
  }
  return { max, rms: Math.sqrt(squares / Math.max(1, exact.length)), worst }
}

export interface ExpectedAttention extends AttentionProblem {
  /** Of q, k, v and out. `lse` is always f32. */
  readonly dtype: DType
  /** What the message calls the case. */
  readonly name: string
}

/**
 * The error rule for everything that computes attention over a selection: against float64, its largest and its
 * root-mean-square error are at most twice those of a plain computation of the same selection in the same precision,
 * plus a few ulp. Rounding luck of a single plain run is taken out by computing it in two forms and taking the larger error.
 *
 * @throws Error naming the case, the worst element and both errors
 */
export function expectAttentionClose(
  actual: { readonly out: ArrayLike<number>; readonly lse?: ArrayLike<number> },
  expected: ExpectedAttention,
): void {
  const { dtype, name } = expected
  const exact = attentionOracle(expected)
  const { batch, queryHeads, queryLength, headDim } = expected
  const shape = [batch, queryHeads, queryLength, headDim]
  const forms: PlainForm[] = ['natural', 'base-2']
  const plain: AttentionAnswer<Float32Array>[] = []
  checkTensor('out', shape, dtype, exact.outMagnitude)
  if (actual.lse) checkTensor('lse', shape.slice(0, 3), 'f32', exact.lseMagnitude)

  function checkTensor(tensor: 'out' | 'lse', axes: readonly number[], type: DType, magnitude: Float64Array): void {
    const errors = errorInUlps(actual[tensor]!, exact[tensor], magnitude, type)
    for (const measure of ['max', 'rms'] as const) {
      let of = 0
      for (let n = 0; ; n++) {
        const allowed = 2 * of + allowance[type]
        if (errors[measure] <= allowed) break
        const form = forms[n]
        if (form === undefined) {
          const { worst } = errors
          throw new Error(
            `${name}: ${tensor} has a${measure === 'max' ? ' largest' : 'n rms'} error of ${show(errors[measure])} ulp (${type}) against float64; ` +
              `a plain computation has ${show(of)}, so ${show(allowed)} is allowed. ` +
              `Worst at [${unravel(worst, axes)}]: ${actual[tensor]![worst]}, exactly ${exact[tensor][worst]}, ` +
              `plain ${plain[0]![tensor][worst]}.`,
          )
        }
        // Computed only where the few ulp do not suffice: it takes as long as the oracle.
        plain[n] ??= plainAttention(expected, dtype, form)
        of = Math.max(of, errorInUlps(plain[n]![tensor], exact[tensor], magnitude, type)[measure])
      }
    }
  }
}

function show(ulps: number): string {
  return ulps === 0 || ulps >= 0.01 ? ulps.toFixed(2) : ulps.toExponential(1)
}

/** Indices along the axes of the element at `index` of a contiguous tensor. */
export function unravel(index: number, axes: readonly number[]): number[] {
  const at = new Array<number>(axes.length)
  let rest = index
  for (let axis = axes.length - 1; axis >= 0; axis--) {
    at[axis] = rest % axes[axis]!
    rest = Math.floor(rest / axes[axis]!)
  }
  return at
}
