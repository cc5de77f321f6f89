/** Blocks off the diagonal that a band of this share of all pairs reaches: half-width N · (1 − √(1 − share)), in blocks. */
export function bandReach(tokens: number, share: number, block: number): number {
  const halfWidth = tokens * (1 - Math.sqrt(1 - Math.min(1, Math.max(0, share))))
  // Half of the diagonal block is on either side.
  return Math.max(0, Math.round(halfWidth / block - 0.5))
}

/** What is left for the band of a share of all pairs, when text takes its rows and columns. */
export function bandShare(density: number, tokens: number, text: number): number {
  return density - (2 * text) / tokens
}

/** Blocks off the diagonal that masks of the profile do not reach: so many frames. */
export function profileReach(frameLength: number, frames: number, block: number): number {
  return Math.max(1, Math.floor((frames * frameLength) / block))
}
