/** How far a selection falls short of the mass it was made for. */
export interface MassShortfall {
  /** Share of the exact softmax that each row keeps: [B · Hq], or as many rows as were given. */
  readonly mass: Float64Array
  /** The largest p − mass of a row; 0 when none falls short. */
  readonly worst: number
  /** The mean of max(0, p − mass) over rows. */
  readonly mean: number
  /** Rows whose mass is below p. */
  readonly rows: number
}

/**
 * What an estimate in few bits, and a selector that leaves pages out, cost of the mass p that a top-p asked for: from the LSE of the
 * sparse run and that of a dense one over the same keys, since the mass of a selection is e^(lse − dense lse). One dense run away,
 * like `recall`; nothing is read back for it on the way.
 *
 * @param lse      natural log, of the sparse run
 * @param denseLse of the dense run
 * @param p        one number, or one a row
 */
export function massShortfall(
  lse: ArrayLike<number>,
  denseLse: ArrayLike<number>,
  p: number | ArrayLike<number>,
): MassShortfall {
  const mass = Float64Array.from({ length: lse.length }, (_, row) => Math.exp(lse[row]! - denseLse[row]!))
  const short = Array.from(mass, (share, row) => Math.max(0, (typeof p === 'number' ? p : p[row]!) - share))
  return {
    mass,
    worst: short.reduce((a, b) => Math.max(a, b), 0),
    mean: short.reduce((a, b) => a + b, 0) / Math.max(1, short.length),
    rows: short.filter((missing) => missing > 0).length,
  }
}
