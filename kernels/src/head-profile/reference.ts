export interface HeadProblem {
  /** Contiguous [L, D] of one head. */
  readonly q: ArrayLike<number>
  readonly k: ArrayLike<number>
  readonly v: ArrayLike<number>
  readonly headDim: number
  readonly scale: number
  readonly frames: number
  readonly frameLength: number
  readonly block: number
  readonly reach: number
}

/** Where a token is when those of one place in all frames lie together; text stays. */
export function temporalPosition(token: number, frames: number, frameLength: number): number {
  if (token >= frames * frameLength) return token
  return (token % frameLength) * frames + Math.floor(token / frameLength)
}

/** Squared errors of the outputs of rows under the spatial mask and the temporal one, in float64. */
export function headErrorsReference(
  { q, k, v, headDim, scale, frames, frameLength, block, reach }: HeadProblem,
  rows: readonly number[],
): { spatial: number; temporal: number }[] {
  const length = k.length / headDim
  const blockOf = (position: number) => Math.floor(position / block)
  const near = (a: number, b: number) => Math.abs(blockOf(a) - blockOf(b)) < reach
  const moved = (token: number) => temporalPosition(token, frames, frameLength)
  return rows.map((row) => {
    const scores = Array.from({ length }, (_, key) => {
      let score = 0
      for (let d = 0; d < headDim; d++) score += q[row * headDim + d]! * k[key * headDim + d]!
      return score * scale
    })
    const output = (keeps: (key: number) => boolean) => {
      const keys = scores.flatMap((_, key) => (key >= frames * frameLength || keeps(key) ? [key] : []))
      const largest = Math.max(...keys.map((key) => scores[key]!))
      const out = new Float64Array(headDim)
      let total = 0
      for (const key of keys) {
        const weight = Math.exp(scores[key]! - largest)
        total += weight
        for (let d = 0; d < headDim; d++) out[d]! += weight * v[key * headDim + d]!
      }
      return out.map((x) => x / total)
    }
    const full = output(() => true)
    const error = (out: Float64Array) => out.reduce((sum, x, d) => sum + (x - full[d]!) ** 2, 0)
    return {
      spatial: error(output((key) => near(row, key))),
      temporal: error(output((key) => near(moved(row), moved(key)))),
    }
  })
}
