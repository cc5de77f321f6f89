import { mean } from '@sparse-attention/compare'
import { type ConfiguredMethod, relativeError } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { psnr, randomScene, ssim, type Video, type VideoGrid } from '@sparse-attention/models'
import type { MadeVideo, VideoMaker } from '../../demo/video/video-maker.js'
import type { FrontierCase } from './cases.js'
import { type CaseSamples, type FrontierResult, type FrontierSample, nameOfCase, summarise } from './samples.js'

export interface MeasureFrontierOptions {
  readonly maker: Pick<VideoMaker, 'make'>
  readonly cases: readonly FrontierCase[]
  readonly grid: VideoGrid
  readonly steps: number
  readonly guidance: number
  /** Of the videos. */
  readonly seeds: readonly number[]
  /** Every n-th video, the first one included, is looked into for density and the time of attention, and not timed. */
  readonly looksEvery: number
  /** false: nothing is timed, since other programs are at work. */
  readonly times: boolean
  /** false: onnxruntime-web's dispatches are not recorded. */
  readonly capture: boolean
  readonly signal: AbortSignal
  /** After each video, warm-ups included. */
  readonly onVideo?: (label: string) => void
  /** After each seed, with all results so far. */
  readonly onSeed?: (results: FrontierResults, seed: number) => void | Promise<void>
}

export interface FrontierResults {
  /** Videos of each method. */
  readonly seeds: number
  /** Dense first. */
  readonly results: readonly FrontierResult[]
  /** Of the first seed, in the order of the results. */
  readonly videos: readonly Video[]
}

/**
 * Makes the same videos with dense attention and with each method, seed after seed, so that all have been made under the same
 * conditions whenever it ends. Nothing is timed before every method has made a video.
 */
export async function measureFrontier(options: MeasureFrontierOptions): Promise<FrontierResults> {
  const { maker, cases, grid, steps, guidance, seeds, looksEvery, times, capture, signal, onVideo, onSeed } = options
  const all = [{ method: dense() as ConfiguredMethod }, ...cases].map((of) => ({
    of,
    collected: { ...nameOfCase(of), samples: [] as FrontierSample[] } satisfies CaseSamples,
  }))
  const request = { grid, guidance, scene: randomScene(1), seed: 1 }
  for (const { of } of all) {
    await maker.make({ ...request, ...of, steps: Math.min(2, steps) }, { signal, looks: false, capture })
    onVideo?.(`${of.method.method.id}: warm-up`)
  }
  const videos: Video[] = []
  let results: FrontierResults = { seeds: 0, results: [], videos }
  for (const [i, seed] of seeds.entries()) {
    const looks = i % looksEvery === 0
    let exact: MadeVideo | undefined
    for (const { of, collected } of all) {
      const made = await maker.make(
        { ...of, grid, steps, guidance, seed, scene: randomScene(seed) },
        { signal, looks, capture },
      )
      exact ??= made
      collected.samples.push(sampleOf(made, exact, { seed, looks, times }))
      if (i === 0) videos.push(made.video)
      onVideo?.(`${of.method.method.id}: seed ${seed}`)
    }
    results = { seeds: i + 1, results: summarise(all.map(({ collected }) => collected)), videos }
    await onSeed?.(results, seed)
  }
  return results
}

function sampleOf(
  made: MadeVideo,
  exact: MadeVideo,
  { seed, looks, times }: { seed: number; looks: boolean; times: boolean },
): FrontierSample {
  const timed = times && !looks
  return {
    seed,
    evaluations: made.evaluations,
    psnr: psnr(made.video, exact.video),
    ssim: ssim(made.video, exact.video),
    error: relativeError(made.latents.at(-1)!, exact.latents.at(-1)!),
    density: looks ? mean(made.steps.map(({ density }) => density)) : null,
    attentionMs: looks && times ? made.steps.reduce((sum, { attentionMs }) => sum + attentionMs, 0) : null,
    totalMs: timed ? made.totalMs : null,
    hostMs: timed ? mean(made.passes.map(({ hostMs }) => hostMs)) : null,
    waitMs: timed ? mean(made.passes.map(({ waitMs }) => waitMs)) : null,
  }
}
