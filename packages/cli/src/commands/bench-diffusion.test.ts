import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseDocumented } from '../../test/documented-schemas.js'
import { refusal } from '../../test/refusal.js'
import { runCaptured } from '../../test/run-captured.js'
import type { DiffusionReport } from '../bench/diffusion/report.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bench-diffusion-'))
})
afterAll(() => rm(folder, { recursive: true }))

describe('bench diffusion', () => {
  it('carries a state over steps, checks the last and compares it with dense', { timeout: 180_000 }, async () => {
    const cases = [
      'lite-attention:threshold=-3',
      'sparse-videogen:density=0.4,sampledRows=16',
      'sparse-videogen-2:queryClusters=4,keyClusters=8,initialIterations=2,minKeepRatio=0.4',
    ]
    const argv = ['bench', 'diffusion', '--shape', 'tiny', '--steps', '2', ...cases.flatMap((of) => ['--case', of])]
    const { exitCode, stdout, stderr } = await runCaptured([...argv, '--out', folder, '--json'])
    expect(exitCode, stderr).toBe(0)
    const report = parseDocumented('bench-diffusion', stdout) as DiffusionReport
    expect(report.shapes).toEqual([
      { name: 'tiny', grid: [2, 8, 16], tokens: 256, modelHeads: 2, heads: 2, headDim: 32 },
    ])
    const [dense, lite, first, second] = report.results
    expect(dense).toMatchObject({ method: 'dense', density: 1, recall: 1, relativeError: 0, stateBytes: 0, speedUp: 1 })
    expect(dense!.operations).toBe(4 * 32 * 2 * 256 ** 2)
    for (const result of report.results) {
      expect(result).toMatchObject({ shape: 'tiny', status: 'timed', reason: null })
      expect(result.checkedError).toBeLessThan(1e-2) // halves
      expect(result.firstMs).toBeGreaterThan(0)
    }
    for (const result of [lite, first, second]) {
      expect(result!.path).toBe('sparse')
      expect(result!.operations).toBeCloseTo(dense!.operations! * result!.density!, 3)
      expect(result!.recall).toBeLessThanOrEqual(1)
      expect(result!.speedUp).toBeCloseTo(dense!.total!.medianMs / result!.total!.medianMs, 9)
    }
    for (const result of [first, second]) {
      expect(result!.density).toBeLessThan(0.95)
      expect(result!.relativeError).toBeGreaterThan(1e-3) // more than halves are off by
    }
    // A bit for each block of 64 by 64; nothing; centroids of f32.
    expect([lite, first, second].map((result) => result!.stateBytes! > 0)).toEqual([true, false, true])
    expect(second!.stateBytes).toBeGreaterThanOrEqual(2 * (4 + 8) * 32 * 4)

    const { seconds: _, ...written } = JSON.parse(await readFile(join(folder, 'diffusion.json'), 'utf8'))
    expect({ ...written, seconds: report.seconds }).toEqual(report)
    const page = await readFile(join(folder, 'diffusion.md'), 'utf8')
    expect(page.split('\n').filter((line) => line.startsWith('| '))).toHaveLength(2 + 4)
  })

  it.each([
    [['--shape', 'imax'], 'INVALID_ARGUMENT', /wan-480p/],
    [['--steps', '1'], 'INVALID_ARGUMENT', /at least 2/],
    [['--case', 'quest'], 'INVALID_ARGUMENT', /does not run in a video model/],
  ])('refuses %j', async (argv, code, message) => {
    expect(await refusal(['bench', 'diffusion', ...argv])).toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })
})
