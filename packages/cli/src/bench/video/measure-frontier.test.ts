import { dense } from '@sparse-attention/kernels'
import { expect, it } from 'vitest'
import type { MadeVideo, VideoRequest } from '../../demo/video/video-maker.js'
import { type FrontierResults, measureFrontier } from './measure-frontier.js'
import { nameCase } from './report.js'
import { mergeSamples, samplesOf, summarise } from './samples.js'
import { seedRange, seedsOf } from './seeds.js'

/** Dense videos are black and take 80 ms + 1 a seed; with a step cache they are grey and take half of that. */
function fakeMaker(asked: VideoRequest[]) {
  return {
    async make(request: VideoRequest, { looks }: { looks: boolean }): Promise<MadeVideo> {
      asked.push(request)
      const { stepCache, seed, steps, grid } = request
      const cached = stepCache !== undefined
      const [frames, height, width] = grid.map((n) => 2 * n) as [number, number, number]
      const pixels = new Float32Array(frames * height * width * 3).fill(cached ? seed / 10 : 0)
      return {
        video: { frames, height, width, pixels },
        totalMs: (80 + seed) / (cached ? 2 : 1),
        evaluations: cached ? steps : 2 * steps,
        latents: [Float32Array.of(cached ? 3 : 2)],
        passes: [{ step: 0, branch: 'conditional', captured: true, hostMs: cached ? 2 : 4, waitMs: 1 }],
        steps: looks ? [0, 1].map((step) => ({ density: cached ? step / seed : 1, attentionMs: cached ? 5 : 10 })) : [],
      }
    },
  }
}

it('compares each video with the dense one of its seed, looks at some and times the others', async () => {
  const asked: VideoRequest[] = []
  const sofar: FrontierResults[] = []
  const found = await measureFrontier({
    maker: fakeMaker(asked),
    cases: [{ method: dense(), stepCache: 0.1 }],
    grid: [1, 1, 1],
    ...{ steps: 2, guidance: 3, seeds: [1, 2, 3, 4], looksEvery: 3, times: true, capture: true },
    signal: new AbortController().signal,
    onSeed: (results) => void sofar.push(results),
  })
  expect(sofar.map(({ seeds }) => seeds)).toEqual([1, 2, 3, 4])
  expect(sofar[0]!.results[1]).toMatchObject({ totalMs: null, speedUp: null })
  // Two warm-ups, then dense before the case, seed after seed, of the same scene.
  expect(asked.slice(2).map(({ seed, stepCache }) => [seed, stepCache])).toEqual(
    [1, 2, 3, 4].flatMap((seed) => [
      [seed, undefined],
      [seed, 0.1],
    ]),
  )
  expect(asked[5]!.scene).toEqual(asked[4]!.scene)
  expect(asked[5]!.scene).not.toEqual(asked[2]!.scene)
  const [exact, cached] = found.results
  expect(exact).toMatchObject({ stepCache: null, density: 1, evaluations: 4, totalMs: 82.5, speedUp: 1, error: 0 })
  expect(exact!.psnr).toEqual({ mean: 100, spread: 0, least: 100 })
  // Looked at: seeds 1 and 4, with densities (0 + 1/seed) / 2; timed: seeds 2 and 3.
  expect(cached).toMatchObject({ stepCache: 0.1, evaluations: 2, totalMs: 41.25, speedUp: 2, error: 0.5 })
  expect(cached).toMatchObject({ attentionMs: 10, attentionSpeedUp: 2, hostMs: 2, waitMs: 1 })
  expect(cached!.density).toBeCloseTo((1 / 2 + 1 / 8) / 2, 5)
  // −20·log₁₀ of 0.1, 0.2, 0.3 and 0.4, rounded to f32 before.
  const decibels = [1, 2, 3, 4].map((seed) => -20 * Math.log10(seed / 10))
  expect(cached!.psnr.mean).toBeCloseTo(decibels.reduce((a, b) => a + b) / 4, 4)
  expect(cached!.psnr.least).toBeCloseTo(decibels[3]!, 4)
  expect(found.videos).toHaveLength(2)
  expect(found.videos[1]!.pixels[0]).toBeCloseTo(0.1, 6)
  expect(nameCase(cached!)).toBe('dense and step cache 0.1')
})

it('parts of other seeds, timed and not, are put together as if one process had made them', async () => {
  const part = async (seeds: readonly number[], times: boolean) => {
    const made = await measureFrontier({
      maker: fakeMaker([]),
      cases: [{ method: dense(), stepCache: 0.1 }],
      grid: [1, 1, 1],
      ...{ steps: 2, guidance: 3, seeds, looksEvery: 3, times, capture: true },
      signal: new AbortController().signal,
    })
    return made.results
  }
  const whole = await part([1, 2, 3, 4], true)
  const untimed = [await part([1, 2, 3], false), await part([4], false)]
  expect(untimed[0]![1]).toMatchObject({ totalMs: null, hostMs: null, attentionMs: null, density: 1 / 2 })
  const parts = [...untimed, await part([1, 2, 3], true)].map((results) => results.map(samplesOf))
  const merged = summarise(mergeSamples(parts))
  expect(merged.map(({ totalMs }) => totalMs)).toEqual([82.5, 41.25])
  expect(merged[1]!.samples.seed).toEqual([1, 2, 3, 4])
  const { psnr, ssim, error, density, evaluations } = whole[1]!
  expect(merged[1]).toMatchObject({ psnr, ssim, error, density, evaluations })
  expect(() => mergeSamples([])).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
})

it('seeds are a number or a range', () => {
  expect(seedsOf(seedRange('3'))).toEqual([1, 2, 3])
  expect(seedsOf(seedRange('6-8'))).toEqual([6, 7, 8])
  for (const wrong of ['0', '4-3', '1-', 'all', '2.5']) expect(() => seedRange(wrong)).toThrow(/first and the last/)
})
