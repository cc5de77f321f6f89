import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parseDocumented } from '../../test/documented-schemas.js'
import { runCaptured } from '../../test/run-captured.js'
import type { DemoPrefillReport } from './demo-prefill.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'demo-'))
})
afterAll(() => rm(folder, { recursive: true }))

it('measures the model dense and sparse on 192 tokens, and draws the plans', { timeout: 180_000 }, async () => {
  const png = join(folder, 'plans.png')
  const argv = ['demo', 'prefill', '--length', '192', '--option', 'threshold=0.3', '--png', png, '--json']
  const { exitCode, stdout } = await runCaptured(argv)
  expect(exitCode).toBe(0)
  const report = parseDocumented('demo-prefill', stdout) as DemoPrefillReport
  expect(report).toMatchObject({ model: 'bookworm-9m', tokens: 192, seed: 1, png })

  const [dense, sparse] = report.runs
  expect(dense).toMatchObject({ method: 'dense', density: 1, recall: 1, lossChange: 0, bitsPerByteChange: 0 })
  // Three rows of 64-token blocks: at least the sink and the diagonal stay, at most the one other block goes.
  expect(sparse).toMatchObject({ method: 'xattention', options: { threshold: 0.3, blockSize: 64 } })
  expect(sparse.layers.map(({ layer, path }) => [layer, path])).toEqual(
    [0, 1, 2, 3, 4, 5, 6, 7].map((i) => [i, 'sparse']),
  )
  expect(sparse.density).toBeGreaterThan(0.7)
  expect(sparse.density).toBeLessThan(1)
  expect(sparse.recall).toBeGreaterThan(0.5)
  expect(sparse.recall).toBeLessThan(1)
  expect(sparse.lossChange).toBe(sparse.loss - dense.loss)
  expect(sparse.lossChange).not.toBe(0)
  // The trained model on a book that it never saw: far from the 8.3 nats of a guess among 4096 tokens.
  expect(dense.loss).toBeLessThan(5)
  expect(dense.attentionMs).toBeLessThan(dense.prefillMs)
  expect(dense.needle.predicted).toMatch(/^\d/)
  expect(dense.needle.found).toBe(dense.needle.predicted === report.needle.answer)

  const { format, width, height } = await sharp(png).metadata()
  expect({ format, wide: width! > 6 * 150, tall: height! > 8 * 150 }).toEqual({ format: 'png', wide: true, tall: true })
})

it.each<[string, string[], RegExp]>([
  ['a length that the model does not have', ['--length', '20000'], /The length is 20000 tokens\. Use 128 to 16384/],
  ['a length that is none', ['--length', 'long'], /integer of at least 1/],
  ['a method that does not prefill', ['--method', 'dense'], /Allowed choices are a-shape, .*xattention/],
  ['an option out of range', ['--option', 'threshold=2'], /'threshold' is 2/],
  ['a picture in no folder', ['--png', '/no/such/folder/x.png'], /cannot be written \(ENOENT\)/],
])('refuses %s', async (_, argv, says) => {
  const { exitCode, stdout } = await runCaptured(['demo', 'prefill', '--png', join(folder, 'x.png'), ...argv, '--json'])
  expect(exitCode).toBe(2)
  const { error } = parseDocumented('error', stdout) as { error: { message: string } }
  expect(error.message).toMatch(says)
})

it('stops when cancelled in the middle, and leaves no picture', async () => {
  const own = await mkdtemp(join(folder, 'own-'))
  const controller = new AbortController()
  const running = runCaptured(['demo', 'prefill', '--length', '512', '--png', join(own, 'x.png')], controller.signal)
  setTimeout(() => controller.abort(), 1500)
  const { exitCode, stdout, stderr } = await running
  expect({ exitCode, stdout }).toEqual({ exitCode: 130, stdout: '' })
  expect(stderr).toMatch(/sparse-attention: Cancelled\.\n$/)
  expect(await readdir(own)).toEqual([])
})
