/** Attention of a video model: tokens as they lie, and heads of a layer. */
export interface VideoShape {
  readonly name: string
  /** Frames, height, width, in tokens. */
  readonly grid: readonly [frames: number, height: number, width: number]
  readonly heads: number
  readonly headDim: number
}

/** Attention of models at the sizes that papers measure. */
export const videoShapes: readonly VideoShape[] = [
  { name: 'wan-480p', grid: [21, 30, 52], heads: 12, headDim: 128 },
  { name: 'hunyuan-720p', grid: [33, 45, 80], heads: 24, headDim: 128 },
  { name: 'tiny', grid: [2, 8, 16], heads: 2, headDim: 32 },
]
