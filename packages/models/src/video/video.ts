import { SparseAttentionError } from '@sparse-attention/core'

/** Frames of a video, as they are looked at. */
export interface Video {
  readonly frames: number
  readonly height: number
  readonly width: number
  /** Red, green and blue from 0 to 1: [frames, height, width, 3]. */
  readonly pixels: Float32Array<ArrayBuffer>
}

/** How the tokens of a video lie: [frames, height, width] in patches of 2 frames of 2×2 pixels. */
export type VideoGrid = readonly [frames: number, height: number, width: number]

export function videoTokens([frames, height, width]: VideoGrid): number {
  return frames * height * width
}

/** Numbers of a token: of 2×2×2 pixels the three colours. */
export const patchSize = 24

/**
 * The video that a model of pixels has made.
 *
 * @param latents f32 [frames · height · width of the grid, 24], a row a patch, in it [frame 2, row 2, column 2, colour 3], from −1
 *   to 1; what lies outside is clamped
 * @throws INVALID_SHAPE for another number of elements
 */
export function videoOf(latents: Float32Array, grid: VideoGrid): Video {
  const [gridFrames, gridHeight, gridWidth] = grid
  if (latents.length !== videoTokens(grid) * patchSize) {
    throw new SparseAttentionError('INVALID_SHAPE', {
      message: `The latents have ${latents.length} numbers, and the grid [${grid}] is of ${videoTokens(grid)} tokens of ${patchSize}.`,
      fix: 'Give those of one video, and its grid.',
      where: 'latents',
    })
  }
  const [frames, height, width] = [2 * gridFrames, 2 * gridHeight, 2 * gridWidth]
  const pixels = new Float32Array(latents.length)
  let at = 0
  for (let f = 0; f < frames; f++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const token = ((f >> 1) * gridHeight + (y >> 1)) * gridWidth + (x >> 1)
        const within = ((f & 1) * 2 + (y & 1)) * 2 + (x & 1)
        for (let colour = 0; colour < 3; colour++) {
          const value = latents[token * patchSize + within * 3 + colour]!
          pixels[at++] = Math.min(1, Math.max(0, (value + 1) / 2))
        }
      }
    }
  }
  return { frames, height, width, pixels }
}
