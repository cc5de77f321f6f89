import { type GridRegions, regionCounts, regionRectangle } from './regions.js'

/** The tokens of each region in plain loops, rows of the rectangle one after another. */
export function regionTokensReference(regions: GridRegions): number[][] {
  return Array.from({ length: regionCounts(regions).count }, (_, r) => {
    const { top, bottom, left, right } = regionRectangle(regions, r)
    const tokens: number[] = []
    for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) tokens.push(y * regions.width + x)
    return tokens
  })
}
