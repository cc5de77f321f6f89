import type { Video } from '@sparse-attention/models'
import { loadSharp } from '../../figures/plan-picture.js'
import { type VideoPicture, videoAnimation, videoStrip } from '../../figures/video-picture.js'
import { nameCase, type VideoFrontierReport } from './report.js'
import type { FrontierResult } from './samples.js'

/**
 * Videos of one seed: dense, and of each method the case that is nearest to half of the density. Animated side by side, and frame by
 * frame one below the other, as WebP.
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
  seed: number,
): Promise<{ readonly animation: Buffer; readonly frames: Buffer }> {
  const sharp = await loadSharp()
  const away = (i: number) => Math.abs((results[i]!.density ?? 1) - 0.5)
  const nearest = new Map<string, number>()
  for (const [i, { method, stepCache }] of results.entries()) {
    if (i === 0 || stepCache !== null) continue
    const known = nearest.get(method)
    if (known === undefined || away(i) < away(known)) nearest.set(method, i)
  }
  const cached = results.findIndex(({ stepCache }) => stepCache !== null)
  const shown = [0, ...nearest.values(), ...(cached < 0 ? [] : [cached])]
  /** Of the video that is shown, where others of the case differ. */
  const detailOf = ({ samples, density }: FrontierResult) => {
    const at = samples.seed.indexOf(seed)
    const [share, psnr] = [samples.density[at] ?? density, samples.psnr[at]]
    return `density ${share?.toFixed(2) ?? '–'}, ${psnr?.toFixed(1) ?? '–'} dB`
  }
  const picture: VideoPicture = {
    title: `${model}, dense and sparse`,
    subtitle: `${tokens} tokens, ${steps} steps, attention in ${dtype}, seed ${seed}: the same noise`,
    panels: shown.map((i) => ({
      label: nameCase(results[i]!),
      detail: i === 0 ? '' : detailOf(results[i]!),
      video: videos[i]!,
    })),
  }
  return {
    animation: await videoAnimation(picture, { quality: 60 }),
    frames: await sharp(await videoStrip(picture))
      .webp({ quality: 60 })
      .toBuffer(),
  }
}
