/** Means of blocks of rows of contiguous [heads, length, headDim] values, f64 [heads, ceil(length / block), headDim]. */
export function blockPoolReference(
  values: ArrayLike<number>,
  { heads, length, headDim }: { heads: number; length: number; headDim: number },
  block: number,
): Float64Array {
  const blocks = Math.ceil(length / block)
  const means = new Float64Array(heads * blocks * headDim)
  for (let at = 0; at < means.length; at++) {
    const d = at % headDim
    const n = Math.floor(at / headDim) % blocks
    const head = Math.floor(at / headDim / blocks)
    const end = Math.min((n + 1) * block, length)
    for (let row = n * block; row < end; row++) means[at]! += values[(head * length + row) * headDim + d]!
    means[at]! /= end - n * block
  }
  return means
}

/** Minima, then maxima, per channel of blocks of rows, f64 [heads, ceil(length / block), 2, headDim]; NaN beats all. */
export function blockBoundsReference(
  values: ArrayLike<number>,
  { heads, length, headDim }: { heads: number; length: number; headDim: number },
  block: number,
): Float64Array {
  const blocks = Math.ceil(length / block)
  const bounds = new Float64Array(heads * blocks * 2 * headDim)
  for (let at = 0; at < bounds.length; at++) {
    const d = at % headDim
    const isMax = Math.floor(at / headDim) % 2 === 1
    const n = Math.floor(at / headDim / 2) % blocks
    const head = Math.floor(at / headDim / 2 / blocks)
    const end = Math.min((n + 1) * block, length)
    bounds[at] = isMax ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY
    for (let row = n * block; row < end; row++) {
      const x = values[(head * length + row) * headDim + d]!
      bounds[at] = isMax ? Math.max(bounds[at]!, x) : Math.min(bounds[at]!, x)
    }
  }
  return bounds
}
