import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createRuntime } from '@sparse-attention/core'
import { liteAttention } from '@sparse-attention/diffusion'
import { dense } from '@sparse-attention/kernels'
import { randomScene } from '@sparse-attention/models'
import { loadVideoModel } from '@sparse-attention/models/node'
import { loadOrt } from '@sparse-attention/onnxruntime/node'
import { trackBuffers } from '@sparse-attention/testing'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parseDocumented } from '../../test/documented-schemas.js'
import { runCaptured } from '../../test/run-captured.js'
import type { VideoFrontierReport } from '../bench/video/report.js'
import { VideoMaker } from '../demo/video/video-maker.js'
import type { DemoVideoReport } from './demo-video.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'video-'))
})
afterAll(() => rm(folder, { recursive: true }))

/** Quality is not asked for, so a grid below the smallest: 64 tokens, in 2 steps. */
it('skipping nothing makes the dense video, a seed makes the same bits again, and an abort leaves nothing', {
  timeout: 180_000,
}, async () => {
  using runtime = await createRuntime({ onNotice: () => {} })
  const source = await loadVideoModel()
  const { signal } = new AbortController()
  await using maker = await VideoMaker.load(runtime, await loadOrt(runtime), source, { dtype: 'f32', signal })
  const request = { grid: [2, 4, 8] as const, scene: randomScene(1), steps: 2, guidance: 1, seed: 1 }
  const exact = await maker.make({ ...request, method: dense() }, { signal, looks: false })

  const method = liteAttention(liteAttention.definition.neutral)
  const neutral = await maker.make({ ...request, method }, { signal, looks: true })
  expect(neutral.steps.map(({ density }) => density)).toEqual([1, 1])
  const most = (a: Float32Array, b: Float32Array) => a.reduce((max, x, i) => Math.max(max, Math.abs(x - b[i]!)), 0)
  // Sums of the same terms in another order, two steps and eight layers of them: some roundings of values up to 4.
  expect(most(neutral.latents[1]!, exact.latents[1]!)).toBeLessThan(1e-4)
  const again = await maker.make({ ...request, method, steps: 1 }, { signal, looks: false })
  const first = await maker.make({ ...request, method, steps: 1 }, { signal, looks: false })
  expect(again.latents[0]).toEqual(first.latents[0])

  await runtime.idle()
  using buffers = trackBuffers(runtime.device)
  const controller = new AbortController()
  const reason = new Error('enough')
  const onStep = () => controller.abort(reason)
  const stopped = maker.make({ ...request, method }, { signal: controller.signal, looks: false, onStep })
  await expect(stopped).rejects.toBe(reason)
  expect(buffers.live).toBe(0)
})

it('writes both videos side by side and their frames, and says how they compare', { timeout: 180_000 }, async () => {
  const scene = ['--scene', 'red circle down left', '--guidance', '1']
  const argv = [
    'demo',
    'video',
    '--size',
    'tiny',
    '--steps',
    '2',
    ...scene,
    '--option',
    'threshold=-1',
    '--out',
    folder,
  ]
  const { exitCode, stdout, stderr } = await runCaptured([...argv, '--step-cache', '0', '--json'])
  expect({ exitCode, stderr: stderr.split('\n').filter((line) => !line.includes('software adapter')) }).toEqual({
    exitCode: 0,
    stderr: [''],
  })
  const report = parseDocumented('demo-video', stdout) as DemoVideoReport
  expect(report).toMatchObject({ model: 'drifters-7m', scene: 'red circle down left', tokens: 256, steps: 2, seed: 1 })
  const [exact, ours] = report.runs
  expect(exact).toMatchObject({ method: 'dense', density: 1, psnr: 100, evaluations: 2 })
  expect(exact.steps.map(({ error }) => error)).toEqual([0, 0])
  expect(ours).toMatchObject({ method: 'lite-attention', options: { threshold: -1, blockQ: 64 }, evaluations: 2 })
  const [first, second] = ours.steps.map(({ density }) => density)
  // Nothing is known in the first step.
  expect(first).toBe(1)
  expect(second).toBeLessThan(1)
  expect(ours.density).toBeCloseTo((first! + second!) / 2, 12)
  expect(ours.psnr).toBeLessThan(60)
  // The trained model finds its way: far from the 5 dB of noise.
  expect(ours.psnr).toBeGreaterThan(10)
  expect(ours.ssim).toBeLessThan(1)
  expect(ours.steps[0]!.error).toBeLessThan(1e-4) // sums in another order
  expect(ours.steps[1]!.error).toBeGreaterThan(ours.steps[0]!.error)
  expect(ours.attentionMs).toBeLessThan(ours.totalMs)

  expect((await readdir(folder)).sort()).toEqual(['sparse-attention-video.png', 'sparse-attention-video.webp'])
  const webp = await sharp(report.webp, { animated: true }).metadata()
  expect([webp.format, webp.pages]).toEqual(['webp', 8])
  expect((await sharp(report.png).metadata()).format).toBe('png')
})

it('bench video writes what it has found, and pictures', { timeout: 180_000 }, async () => {
  const out = join(folder, 'frontier')
  const cases = ['--case', 'lite-attention:threshold=-2', '--steps', '1', '--guidance', '1']
  const { exitCode, stdout } = await runCaptured(['bench', 'video', ...cases, '--out', out, '--json'])
  expect(exitCode).toBe(0)
  const { results, ...report } = parseDocumented('bench-video', stdout) as VideoFrontierReport
  expect(report).toMatchObject({ tokens: 256, steps: 1, seeds: 1, dtype: 'f32' })
  expect(results.map(({ method, stepCache, density }) => [method, stepCache, density])).toEqual([
    ['dense', null, 1],
    ['lite-attention', null, 1],
  ])
  expect((await readdir(out)).sort()).toEqual(['video-frames.webp', 'video-part-1-1.json', 'video.webp'])
  const merged = await runCaptured(['bench', 'video', '--merge', '--out', out, '--json'])
  expect(parseDocumented('bench-video', merged.stdout)).toMatchObject({ results, seeds: 1 })
})

it.each<[string, string[], RegExp]>([
  ['a scene that is none', ['demo', 'video', '--scene', 'red ball'], /'red ball' is no scene/],
  ['a method for decoding', ['demo', 'video', '--method', 'quest'], /Allowed choices are .*lite-attention/],
  ['an option out of range', ['demo', 'video', '--option', 'threshold=1'], /'threshold' is 1/],
  ['no steps', ['demo', 'video', '--steps', '0'], /integer of at least 1/],
  ['a folder that is not there', ['demo', 'video', '--out', '/no/such'], /cannot be written \(ENOENT\)/],
  ['a case for decoding', ['bench', 'video', '--case', 'quest'], /'quest' cannot run in a video model/],
  ['a step cache that is none', ['bench', 'video', '--case', 'dense+step-cache=x'], /step cache is 'x'/],
])('refuses %s', async (_, argv, says) => {
  const { exitCode, stdout } = await runCaptured([...argv, '--json'])
  expect(exitCode).toBe(2)
  const { error } = parseDocumented('error', stdout) as { error: { message: string } }
  expect(error.message).toMatch(says)
})

it('stops when cancelled in the middle, and leaves no file', async () => {
  const own = await mkdtemp(join(folder, 'own-'))
  const controller = new AbortController()
  const running = runCaptured(['demo', 'video', '--out', own], controller.signal)
  setTimeout(() => controller.abort(), 3000)
  const { exitCode, stdout, stderr } = await running
  expect({ exitCode, stdout }).toEqual({ exitCode: 130, stdout: '' })
  expect(stderr).toMatch(/sparse-attention: Cancelled\.\n$/)
  expect(await readdir(own)).toEqual([])
})
