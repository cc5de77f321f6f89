/** The places of the set bits of one row, ascending, at most `capacity`, padded with −1. */
export function bitmapToListReference(row: Uint32Array, capacity: number): { count: number; indices: number[] } {
  const indices: number[] = []
  for (let i = 0; i < row.length * 32 && indices.length < capacity; i++) {
    if (((row[i >> 5]! >>> (i & 31)) & 1) === 1) indices.push(i)
  }
  const count = indices.length
  while (indices.length < capacity) indices.push(-1)
  return { count, indices }
}
