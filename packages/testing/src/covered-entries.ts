import type { HostPlan } from '@sparse-attention/core'

/**
 * Which columns or diagonals a head's plan keeps whole, u8[Lk]: every pair of theirs that causality leaves visible. A
 * diagonal is an offset, row + Lk − Lq minus the key.
 *
 * @param shares of each cell of blockQ queries × 1 key, [nq, Lk]; NaN where no pair is visible
 */
export function coveredEntries(
  of: 'columns' | 'diagonals',
  shares: Float32Array,
  { queryLength, keyLength }: Pick<HostPlan, 'queryLength' | 'keyLength'>,
  blockQ: number,
): Uint8Array {
  const covered = new Uint8Array(keyLength).fill(1)
  for (let row = 0; row < queryLength; row++) {
    const cells = Math.floor(row / blockQ) * keyLength
    const position = row + keyLength - queryLength
    for (let key = 0; key < keyLength; key++) {
      const entry = of === 'columns' ? key : position - key
      if (entry >= 0 && entry < keyLength && shares[cells + key]! < 1) covered[entry] = 0
    }
  }
  return covered
}
