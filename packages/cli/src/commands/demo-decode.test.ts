import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseDocumented } from '../../test/documented-schemas.js'
import { refusal } from '../../test/refusal.js'
import { runCaptured } from '../../test/run-captured.js'
import type { GenerationReport } from '../bench/generate/report.js'
import type { DemoDecodeReport } from './demo-decode.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bench-generate-'))
})
afterAll(() => rm(folder, { recursive: true }))

describe('demo decode', () => {
  it('compares a method with dense decoding on the same text and needle', { timeout: 180_000 }, async () => {
    const argv = 'demo decode --method sink-window --option localWindow=16 --length 64 --tokens 16 --samples 1 --json'
    const { exitCode, stdout } = await runCaptured(argv.split(' '))
    expect(exitCode).toBe(0)
    const { results, ...report } = parseDocumented('demo-decode', stdout) as DemoDecodeReport
    expect(report).toMatchObject({ model: 'bookworm-9m', length: 64, tokens: 16, samples: 1, seed: 1 })
    const [dense, sparse] = results
    expect(dense).toMatchObject({ method: 'dense', density: 1, agreement: 1, samePrefix: 16 })
    expect(sparse).toMatchObject({ method: 'sink-window', options: expect.objectContaining({ localWindow: 16 }) })
    expect(sparse!.density).toBeLessThan(0.9)
    expect(sparse!.samePrefix).toBeLessThanOrEqual(16 * sparse!.agreement)
  })

  it.each<[string, string[], RegExp]>([
    ['a prompt without room for a needle', ['--length', '20'], /at least 64/],
    ['more than the model was trained on', ['--length', '16384'], /16384 together/],
    ['a method that does not decode', ['--method', 'xattention'], /Allowed choices are .*quest/],
  ])('refuses %s', { timeout: 60_000 }, async (_, argv, says) => {
    const { exitCode, stdout } = await runCaptured(['demo', 'decode', ...argv, '--json'])
    expect(exitCode).toBe(2)
    const { error } = parseDocumented('error', stdout) as { error: { message: string } }
    expect(error.message).toMatch(says)
  })
})

// In the same process: the second model of one loads in a third of the time.
describe('bench generate', () => {
  it('writes beside dense decoding at several budgets, and keeps what is known by then', {
    timeout: 180_000,
  }, async () => {
    const cases = ['--case', 'sink-window:localWindow=n/4']
    const sizes = ['--length', '64', '--tokens', '16', '--passages', '1', '--needles', '1']
    const argv = ['bench', 'generate', ...sizes, ...cases, '--out', folder, '--json']
    const { exitCode, stdout, stderr } = await runCaptured(argv)
    expect(exitCode, stderr).toBe(0)
    const report = parseDocumented('bench-generate', stdout) as GenerationReport
    expect(report).toMatchObject({ model: 'bookworm-9m', length: 64, tokens: 16, passages: 1, needles: 1, seed: 1 })
    const [dense, narrow] = report.results
    expect(dense).toMatchObject({ method: 'dense', density: 1, agreement: [1], samePrefix: [16] })
    for (const { hostTimes, tokenMs } of report.results) {
      // Eight layers, and what is left of the model behind the last.
      const { captured, piecesMs, attentionsMs } = hostTimes!
      expect([captured, piecesMs.length, attentionsMs.length]).toEqual([false, 9, 8])
      expect(Math.max(...piecesMs, ...attentionsMs)).toBeLessThan(tokenMs!)
    }
    expect(narrow).toMatchObject({ method: 'sink-window', options: expect.objectContaining({ localWindow: 16 }) })
    expect(narrow!.density).toBeLessThan(0.5)
    expect(narrow!.samePrefix[0]).toBeLessThanOrEqual(16 * narrow!.agreement[0]!)
    expect(narrow!.needles).toBeLessThanOrEqual(1)

    const { seconds: _, ...written } = JSON.parse(await readFile(join(folder, 'generate.json'), 'utf8'))
    expect({ ...written, seconds: report.seconds }).toEqual(report)
    const page = await readFile(join(folder, 'generate.md'), 'utf8')
    expect(page.match(/^\| (dense|sink-window) .*\| no \| \d+\.\d\d \| (\d+\.\d\d, ){8}\d/gm)).toHaveLength(2)
    expect(page).toMatch(/\| sink-window \(sink 4, localWindow 16[^|]*\| 0\.\d{3} \| [01] of 1 \|/)
  })

  it.each([
    [['--length', '20'], 'INVALID_ARGUMENT', /at least 64/],
    [['--length', '16384'], 'INVALID_OPTION', /16384 tokens/],
    [['--case', 'a-shape'], 'INVALID_ARGUMENT', /does not run token by token/],
  ])('refuses %j', { timeout: 60_000 }, async (argv, code, message) => {
    expect(await refusal(['bench', 'generate', ...argv])).toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })
})
