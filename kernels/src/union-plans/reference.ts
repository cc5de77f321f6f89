/** OR over the bitmaps of each group of heads, once a group: u32[heads / groupSize, words]. */
export function unionOfGroupsReference(bitmaps: Uint32Array, words: number, groupSize: number): Uint32Array {
  const unions = new Uint32Array(bitmaps.length / groupSize)
  for (let at = 0; at < bitmaps.length; at++) {
    const head = Math.floor(at / words)
    unions[Math.floor(head / groupSize) * words + (at % words)]! |= bitmaps[at]!
  }
  return unions
}
