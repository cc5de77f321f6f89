import { type ConfiguredMethod, type OptionValue, relativeError } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { psnr, randomScene, ssim, type Video, type VideoGrid } from '@sparse-attention/models'
import type { MadeVideo, VideoMaker } from '../../demo/video/video-maker.js'
import { mean, median } from '../../statistics.js'
import type { FrontierCase } from './cases.js'

export interface MeasureFrontierOptions {
  readonly maker: Pick<VideoMaker, 'make'>
  readonly cases: readonly FrontierCase[]
  readonly grid: VideoGrid
  readonly steps: number
  readonly guidance: number
  /** Videos of each method, of seeds 1, 2, … */
  readonly seeds: number
  /** Every n-th video, the first one included, is looked into for density and the time of attention, and not timed. */
  readonly looksEvery: number
  readonly signal: AbortSignal
  /** After each video, warm-ups included. */
  readonly onVideo?: (label: string) => void
  /** After each seed, with all results so far. */
  readonly onSeed?: (results: FrontierResults) => void | Promise<void>
}

/** Of several videos: their mean, spread and worst. */
export interface Quality {
  readonly mean: number
  /** Standard deviation over the videos. */
  readonly spread: number
  readonly least: number
}

export interface FrontierResult {
  readonly method: string
  readonly options: Readonly<Record<string, OptionValue>>
  /** Threshold of a step cache; null: without. */
  readonly stepCache: number | null
  /** How often the model ran for a video, mean. */
  readonly evaluations: number
  /** Kept pairs ÷ all pairs, dense steps and layers included. */
  readonly density: number
  /** To the dense video from the same noise. */
  readonly psnr: Quality
  readonly ssim: Quality
  /** ‖x − dense x‖₂ ÷ ‖dense x‖₂ of the final latents, mean. */
  readonly error: number
  /** Median of the videos that were timed; null: none was. */
  readonly totalMs: number | null
  /** Median over seeds of dense time ÷ this time. */
  readonly speedUp: number | null
  /** Planning and attention in a whole video, median of those that were looked into. */
  readonly attentionMs: number
  readonly attentionSpeedUp: number
}

export interface FrontierResults {
  readonly seeds: number
  /** Dense first. */
  readonly results: readonly FrontierResult[]
  /** Of the first seed, in the order of the results. */
  readonly videos: readonly Video[]
}

/** What is kept of one method while seeds come in. */
interface Collected {
  readonly of: FrontierCase
  readonly evaluations: number[]
  readonly psnr: number[]
  readonly ssim: number[]
  readonly errors: number[]
  readonly densities: number[]
  readonly attentionMs: number[]
  /** By seed; undefined where it was looked into. */
  readonly totalMs: (number | undefined)[]
}

/**
 * Makes the same videos with dense attention and with each method, seed after seed, so that all have been made under the same
 * conditions whenever it ends. Nothing is timed before every method has made a video.
 */
export async function measureFrontier(options: MeasureFrontierOptions): Promise<FrontierResults> {
  const { maker, cases, grid, steps, guidance, seeds, looksEvery, signal, onVideo, onSeed } = options
  const collected = [{ method: dense() as ConfiguredMethod }, ...cases].map(
    (of): Collected => ({
      ...{ of, evaluations: [], psnr: [], ssim: [], errors: [], densities: [], attentionMs: [], totalMs: [] },
    }),
  )
  const request = { grid, guidance, scene: randomScene(1), seed: 1 }
  for (const { of } of collected) {
    await maker.make({ ...request, ...of, steps: Math.min(2, steps) }, { signal, looks: false })
    onVideo?.(`${of.method.method.id}: warm-up`)
  }
  const videos: Video[] = []
  let results: FrontierResults = { seeds: 0, results: [], videos }
  for (let i = 0; i < seeds; i++) {
    const seed = i + 1
    const looks = i % looksEvery === 0
    let exact: MadeVideo | undefined
    for (const each of collected) {
      const request = { ...each.of, grid, steps, guidance, seed, scene: randomScene(seed) }
      const made = await maker.make(request, { signal, looks })
      exact ??= made
      each.evaluations.push(made.evaluations)
      each.psnr.push(psnr(made.video, exact.video))
      each.ssim.push(ssim(made.video, exact.video))
      each.errors.push(relativeError(made.latents.at(-1)!, exact.latents.at(-1)!))
      each.totalMs.push(looks ? undefined : made.totalMs)
      if (looks) {
        each.densities.push(mean(made.steps.map(({ density }) => density)))
        each.attentionMs.push(made.steps.reduce((sum, { attentionMs }) => sum + attentionMs, 0))
      }
      if (i === 0) videos.push(made.video)
      onVideo?.(`${each.of.method.method.id}: seed ${seed}`)
    }
    results = { seeds: seed, results: collected.map((each) => summarise(each, collected[0]!)), videos }
    await onSeed?.(results)
  }
  return results
}

function summarise(each: Collected, exact: Collected): FrontierResult {
  const timed = each.totalMs.flatMap((ms) => ms ?? [])
  const ratios = each.totalMs.flatMap((ms, i) => (ms === undefined ? [] : exact.totalMs[i]! / ms))
  const attentionMs = median(each.attentionMs)
  const { method, stepCache = null } = each.of
  return {
    method: method.method.id,
    options: method.options,
    stepCache,
    evaluations: mean(each.evaluations),
    density: mean(each.densities),
    psnr: qualityOf(each.psnr),
    ssim: qualityOf(each.ssim),
    error: mean(each.errors),
    totalMs: timed.length > 0 ? median(timed) : null,
    speedUp: ratios.length > 0 ? median(ratios) : null,
    attentionMs,
    attentionSpeedUp: median(exact.attentionMs) / attentionMs,
  }
}

function qualityOf(values: readonly number[]): Quality {
  const average = mean(values)
  const variance = mean(values.map((value) => (value - average) ** 2))
  return { mean: average, spread: Math.sqrt(variance), least: Math.min(...values) }
}
