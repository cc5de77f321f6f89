import type { VideoModelConfig } from './config.js'
import type { VideoGrid } from './video.js'

/** Sizes of videos: the same scenes, sampled more or less finely. */
export const videoSizes = ['tiny', 'small', 'medium', 'full'] as const
export type VideoSize = (typeof videoSizes)[number]

/** 256, 512 and 2048 tokens, and the size that the model is meant for. */
export function videoGrid(size: VideoSize, { defaultGrid }: Pick<VideoModelConfig, 'defaultGrid'>): VideoGrid {
  return { tiny: [4, 8, 8] as const, small: [8, 8, 8] as const, medium: [8, 16, 16] as const, full: defaultGrid }[size]
}
