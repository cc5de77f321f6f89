import { mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { mergeParts } from './parts.js'
import { type FrontierSample, summarise } from './samples.js'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'parts-'))
})
afterEach(() => rm(folder, { recursive: true }))

interface Part {
  /** Times of the dense video of each seed; null: it was not timed. */
  readonly times: Readonly<Record<number, number | null>>
  readonly psnr?: number
  readonly recorded?: boolean
  readonly tokens?: number
  readonly writtenAt: number
}

async function write(name: string, { times, psnr = 30, recorded = true, tokens = 512, writtenAt }: Part) {
  const samples = (factor: number) =>
    Object.entries(times).map(([seed, ms]): FrontierSample => {
      const totalMs = ms === null ? null : factor * ms
      const rest = { evaluations: 4, ssim: 1, error: 0, hostMs: totalMs, waitMs: totalMs }
      return { seed: Number(seed), psnr, totalMs, density: ms === null ? factor : null, attentionMs: null, ...rest }
    })
  const results = summarise([
    { method: 'dense', options: {}, stepCache: null, samples: samples(1) },
    { method: 'quick', options: { level: 2 }, stepCache: 0.5, samples: samples(0.5) },
  ])
  const captured = { used: recorded, reason: '' }
  await writeFile(join(folder, name), JSON.stringify({ model: 'm', tokens, steps: 2, captured, results }))
  await utimes(join(folder, name), writtenAt, writtenAt)
}

it('a seed made again replaces itself, whatever its file is called', async () => {
  await write('video-part-1-3.json', { times: { 1: null, 2: 900, 3: 900 }, psnr: 20, writtenAt: 1000 })
  await write('video-part-3-4.json', { times: { 3: 100, 4: null }, psnr: 40, writtenAt: 2000 })
  const { results, seeds } = await mergeParts(folder, 'merge')
  expect(seeds).toBe(4)
  expect(results[1]).toMatchObject({ stepCache: 0.5, density: 0.5, speedUp: 2 })
  expect(results[0]!.samples).toMatchObject({ seed: [1, 2, 3, 4], totalMs: [null, 900, 100, null] })
  expect(results[0]!.samples.psnr).toEqual([20, 20, 40, 40])
})

it('times that were recorded and times that were not are never one median', async () => {
  await write('video-part-1-4.json', { times: { 1: null, 2: 900 }, recorded: false, writtenAt: 1000 })
  await write('video-part-3-4.json', { times: { 3: 400, 4: null }, writtenAt: 2000 })
  const { results, captured } = await mergeParts(folder, 'merge')
  expect(captured.used).toBe(true)
  expect(results[0]).toMatchObject({ totalMs: 400, hostMs: 400, samples: { totalMs: [null, null, 400, null] } })
  expect(results[1]!.samples.psnr).toEqual([30, 30, 30, 30])
})

it('parts of other videos are refused, and so are files that are none', async () => {
  await write('video-part-1-1.json', { times: { 1: 5 }, writtenAt: 1000 })
  await write('video-part-2-2.json', { times: { 2: 5 }, tokens: 256, writtenAt: 2000 })
  await expect(mergeParts(folder, '')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await writeFile(join(folder, 'video-part-2-2.json'), '{')
  await expect(mergeParts(folder, '')).rejects.toMatchObject({
    code: 'INVALID_FILE',
    where: expect.stringContaining('video-part-2-2'),
  })
})
