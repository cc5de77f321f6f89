/** Seeded fractions in [0, 1) of 53 bits, the same on every platform: two words of a Weyl sequence, mixed (splitmix32). */
export function seededFractions(seed: number): () => number {
  let state = seed >>> 0
  const word = () => {
    state = (state + 0x9e3779b9) >>> 0
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad)
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
    return (mixed ^ (mixed >>> 15)) >>> 0
  }
  return () => (word() * 2 ** 21 + (word() >>> 11)) / 2 ** 53
}
