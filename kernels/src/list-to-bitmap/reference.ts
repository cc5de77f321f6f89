/** The bits at `indices` in a row of `length`; others than 0 … length − 1 are left out. */
export function listToBitmapReference(indices: readonly number[], length: number): Uint32Array {
  const row = new Uint32Array(Math.ceil(length / 32))
  for (const i of indices) if (i >= 0 && i < length) row[i >> 5]! |= 1 << (i & 31)
  return row
}
