/** What one output pixel is made of: neighbouring input pixels from `first` on, with weights that sum to 1. */
export interface Taps {
  readonly first: number
  readonly weights: Float64Array
}

/** Half the width of the filter, in pixels of whichever of input and output is coarser. */
const support = 2

/** Keys' cubic convolution with a = −1/2 (IEEE ASSP 29(6), 1981), which is of third order. */
function cubic(distance: number): number {
  const x = Math.abs(distance)
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1
  return x < support ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0
}

/**
 * Bicubic weights along one axis, for outputs from `start` on. Where the picture gets smaller, the filter gets as much wider, so
 * that what is finer than the output's pixels is averaged and not aliased; at the edges it is cut off and normalised.
 *
 * @param from, to pixels of the whole axis before and after
 * @param start, count which of the output's pixels
 */
export function bicubicTaps(from: number, to: number, start: number, count: number): readonly Taps[] {
  const scale = from / to
  const stretch = Math.max(1, scale)
  return Array.from({ length: count }, (_, i) => {
    const center = (start + i + 0.5) * scale
    const first = Math.max(0, Math.trunc(center - support * stretch + 0.5))
    const end = Math.min(from, Math.trunc(center + support * stretch + 0.5))
    const weights = Float64Array.from({ length: end - first }, (_, j) => cubic((first + j + 0.5 - center) / stretch))
    const sum = weights.reduce((total, weight) => total + weight, 0)
    return { first, weights: weights.map((weight) => weight / sum) }
  })
}
