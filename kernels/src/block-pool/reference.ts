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
