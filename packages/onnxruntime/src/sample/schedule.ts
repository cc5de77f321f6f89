/**
 * Times of a rectified flow, from noise (1) to data (0): evenly spaced, then shifted towards noise by
 * t ↦ a·t / (1 + (a − 1)·t) (Esser et al., arXiv:2403.03206, section 5.3.2).
 *
 * @param steps evaluations of the model, at least 1
 * @param shift a > 0; 1 leaves the times even, larger grids want more
 * @returns steps + 1 times, falling from exactly 1 to exactly 0
 */
export function flowTimes(steps: number, shift: number): number[] {
  return Array.from({ length: steps + 1 }, (_, i) => {
    const even = 1 - i / steps
    return (shift * even) / (1 + (shift - 1) * even)
  })
}
