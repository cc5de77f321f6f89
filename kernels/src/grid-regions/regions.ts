import { SparseAttentionError } from '@sparse-attention/core'

/**
 * How a grid of tokens, row after row, is cut into rectangles: all of one size, except that the first ones may lack rows or
 * columns, and the last ones end where the grid does. None is empty. Regions are counted row after row too.
 */
export interface GridRegions {
  /** Of the grid, in tokens. */
  readonly height: number
  readonly width: number
  /** Of a whole region, in tokens. */
  readonly regionHeight: number
  readonly regionWidth: number
  /** Rows that the regions at the top lack, and columns that those at the left lack: less than a region. */
  readonly cutTop: number
  readonly cutLeft: number
}

/** Regions from top to bottom, from left to right, and in all. */
export function regionCounts(regions: GridRegions): { down: number; across: number; count: number } {
  const { height, width, regionHeight, regionWidth, cutTop, cutLeft } = regions
  const down = Math.ceil((height + cutTop) / regionHeight)
  const across = Math.ceil((width + cutLeft) / regionWidth)
  return { down, across, count: down * across }
}

/** The rectangle of tokens [top, bottom) × [left, right) that is region r. */
export function regionRectangle(
  regions: GridRegions,
  r: number,
): { top: number; bottom: number; left: number; right: number } {
  const { height, width, regionHeight, regionWidth, cutTop, cutLeft } = regions
  const { across } = regionCounts(regions)
  const top = Math.floor(r / across) * regionHeight - cutTop
  const left = (r % across) * regionWidth - cutLeft
  return {
    top: Math.max(0, top),
    bottom: Math.min(height, top + regionHeight),
    left: Math.max(0, left),
    right: Math.min(width, left + regionWidth),
  }
}

/** The region of each token, u32[height · width]. */
export function regionOfTokens(regions: GridRegions): Uint32Array {
  const { across } = regionCounts(regions)
  return Uint32Array.from({ length: regions.height * regions.width }, (_, token) => {
    const y = Math.floor((Math.floor(token / regions.width) + regions.cutTop) / regions.regionHeight)
    return y * across + Math.floor(((token % regions.width) + regions.cutLeft) / regions.regionWidth)
  })
}

/**
 * Regions of equal size, as near as may be to `perSide` from top to bottom and from left to right: of ⌈size / perSide⌉
 * tokens, as if the grid were padded at the bottom and the right to a multiple of it. Padding is no token, and a region of
 * nothing but padding no region, so there may be fewer than asked for. A side shorter than `perSide` has a region a token.
 */
export function equalRegions(
  [height, width]: readonly [height: number, width: number],
  perSide: number | readonly [down: number, across: number],
): GridRegions {
  const [down, across] = typeof perSide === 'number' ? [perSide, perSide] : perSide
  return {
    height,
    width,
    regionHeight: Math.ceil(height / down),
    regionWidth: Math.ceil(width / across),
    cutTop: 0,
    cutLeft: 0,
  }
}

/**
 * Square windows of `size` tokens, shifted by `shift` towards the bottom and the right. A shift by rolling the grid, with
 * the two sides of the seam masked from each other, is the same as this: no roll, no mask, and windows that are cut at the
 * edges.
 */
export function shiftedWindows(
  [height, width]: readonly [height: number, width: number],
  size: number,
  shift: number,
): GridRegions {
  const cut = shift > 0 ? size - shift : 0
  return { height, width, regionHeight: size, regionWidth: size, cutTop: cut, cutLeft: cut }
}

/** @throws INVALID_ARGUMENT unless the regions are of integers and cover a grid of `length` tokens */
export function checkRegions(regions: GridRegions, length: number): void {
  const { height, width, regionHeight, regionWidth, cutTop, cutLeft } = regions
  const whole = Object.values(regions).every(Number.isSafeInteger)
  const sizes = Math.min(height, width, regionHeight, regionWidth) >= 1
  const cuts = Math.min(cutTop, cutLeft) >= 0 && cutTop < regionHeight && cutLeft < regionWidth
  if (whole && sizes && cuts && height * width === length) return
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: `Regions of ${regionHeight}×${regionWidth}, cut by ${cutTop} and ${cutLeft}, of ${height}×${width} tokens do not cut up ${length} tokens.`,
    fix: 'Pass integers: height · width tokens, regions of at least one token, and cuts smaller than a region.',
    where: 'regions',
  })
}
