import type { Video } from '@sparse-attention/models'
import { loadSharp } from '../../figures/plan-picture.js'
import { type VideoPicture, videoAnimation, videoStrip } from '../../figures/video-picture.js'
import { nameCase, type VideoFrontierReport } from './report.js'

/**
 * The first seed's videos of all methods: animated side by side, and frame by frame one below the other, as WebP.
 *
 * @throws MISSING_DEPENDENCY
 */
export async function frontierPictures(
  {
    results,
    tokens,
    steps,
    dtype,
    model,
  }: Pick<VideoFrontierReport, 'results' | 'tokens' | 'steps' | 'dtype' | 'model'>,
  videos: readonly Video[],
): Promise<{ readonly animation: Buffer; readonly frames: Buffer }> {
  const sharp = await loadSharp()
  const picture: VideoPicture = {
    title: `${model}, dense and sparse`,
    subtitle: `${tokens} tokens, ${steps} steps, attention in ${dtype}, seed 1: the same noise`,
    panels: results.map((result, i) => ({
      label: nameCase(result),
      detail: i === 0 ? '' : `density ${result.density.toFixed(2)}, ${result.psnr.mean.toFixed(1)} dB`,
      video: videos[i]!,
    })),
  }
  return {
    animation: await videoAnimation(picture),
    frames: await sharp(await videoStrip(picture))
      .webp({ quality: 85 })
      .toBuffer(),
  }
}
