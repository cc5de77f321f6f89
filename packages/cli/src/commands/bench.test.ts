import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { BenchReport } from '@sparse-attention/compare'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseDocumented } from '../../test/documented-schemas.js'
import { refusal } from '../../test/refusal.js'
import { runCaptured } from '../../test/run-captured.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bench-'))
})
afterAll(() => rm(folder, { recursive: true }))

const small = ['bench', '--heads', '2', '--kv-heads', '1', '--head-dim', '16', '--samples', '2', '--causal']

describe('bench', () => {
  it('times dense, methods and onnxruntime-web at each length', { timeout: 180_000 }, async () => {
    const markdown = join(folder, 'bench.md')
    const option = ['--option', 'xattention.threshold=0.1', 'xattention.blockSize=64']
    const argv = [...small, '--lengths', '16,200', ...option, '--markdown', markdown, '--json']
    const { exitCode, stdout, stderr } = await runCaptured(argv)
    expect(exitCode, stderr).toBe(0)
    const report = parseDocumented('bench', stdout) as BenchReport
    expect(report).toMatchObject({
      shape: { batch: 1, queryHeads: 2, kvHeads: 1, headDim: 16, dtype: 'f32', causal: true },
      input: { kind: 'stripes', seed: 1 },
      scaled: false,
      samples: 2,
      markdown,
    })
    expect(report.results.map(({ length, contender }) => [length, contender])).toEqual([
      [16, 'dense'],
      [16, 'xattention'],
      [16, 'onnxruntime-web'],
      [200, 'dense'],
      [200, 'xattention'],
      [200, 'onnxruntime-web'],
    ])
    for (const result of report.results) {
      if (result.contender === 'onnxruntime-web') {
        // Its kernels are wrong on some adapters beyond 32 tokens: then it says so, and has no times.
        if (result.length === 16) expect(result).toMatchObject({ status: 'timed', path: 'dense', attend: null })
        expect(result.total === null).toBe(result.status !== 'timed')
        expect(result.reason === null).toBe(result.status === 'timed')
        continue
      }
      expect(result).toMatchObject({ status: 'timed', reason: null })
      for (const { wall, gpu } of [result.total!, result.attend!]) {
        expect(gpu === null).toBe(!report.gpuTimes)
        for (const times of gpu ? [wall, gpu] : [wall]) {
          expect(times.p10Ms).toBeLessThanOrEqual(times.medianMs)
          expect(times.medianMs).toBeLessThanOrEqual(times.p90Ms)
        }
      }
    }
    const [, , , dense, sparse] = report.results
    expect(dense).toMatchObject({ path: 'dense', density: 1, recall: 1, relativeError: 0, planningMs: 0 })
    expect(dense!.operations).toBe((4 * 16 * 2 * 200 * 201) / 2)
    expect(dense!.bytes).toBe(4 * 200 * 16 * (2 + 2 + 1 + 1) + 4 * 2 * 200)
    expect(sparse!.density).toBeLessThan(1)
    expect(sparse!.recall).toBeLessThan(1)
    expect(sparse!.relativeError).toBeGreaterThan(0)
    expect(sparse!.operations).toBeCloseTo(dense!.operations! * sparse!.density!, 3)

    const page = await readFile(markdown, 'utf8')
    expect(page).toContain(`\`sparse-attention ${argv.join(' ')}\``)
    expect(page).toContain('| 200 | xattention | ')
    expect(page.split('\n').filter((line) => line.startsWith('| '))).toHaveLength(2 + 6)
  })

  it('prints a table for people, and leaves the peer out', { timeout: 120_000 }, async () => {
    const argv = [
      ...small,
      '--lengths',
      '64',
      '--methods',
      'dense',
      '--no-peer',
      '--input',
      'gaussian',
      '--tiers',
      'all',
    ]
    const { exitCode, stdout } = await runCaptured(argv)
    expect(exitCode).toBe(0)
    expect(stdout).toMatch(/length +contender +tier +density/)
    expect(stdout).toMatch(/^ +64 +dense +portable +1\.000/m)
    expect(stdout).not.toContain('onnxruntime-web')
    expect(stdout).toContain('gaussian inputs, seed 1; 2 samples')
  })

  it('times methods over grids, and says what memory they take', { timeout: 120_000 }, async () => {
    const cases = ['bilevel-routing:regions=4,topK=2', 'bilevel-routing:regions=4,topK=3', 'shifted-windows']
    const argv = ['bench', '--heads', '2', '--head-dim', '16', '--samples', '1', '--no-peer', '--grid', '8x8']
    const { exitCode, stdout, stderr } = await runCaptured([
      ...argv,
      ...cases.flatMap((of) => ['--case', of]),
      '--json',
    ])
    expect(exitCode, stderr).toBe(0)
    const report = parseDocumented('bench', stdout) as BenchReport
    expect(report).toMatchObject({ grids: [[8, 8]], input: { kind: 'patches' } })
    const [dense, two, three, windows] = report.results
    for (const result of report.results) expect(result).toMatchObject({ length: 64, status: 'timed' })
    expect([dense, two, three].map((result) => result!.density)).toEqual([1, 2 / 16, 3 / 16])
    expect(dense!.memory!.gathered).toBe(0)
    // Two and three of 16 regions of 4 tokens for each region: keys and values of f32, two heads of 16.
    expect([two, three].map((result) => result!.memory!.gathered)).toEqual([2, 3].map((k) => 2 * k * 64 * 2 * 16 * 4))
    // One copy of q, k, v and the output, in the order of the regions.
    expect(two!.memory!.scratch).toBeGreaterThanOrEqual(4 * 64 * 2 * 16 * 4)
    expect(three!.memory!.scratch).toBe(two!.memory!.scratch)
    expect(windows).toMatchObject({ contender: 'shifted-windows', path: 'sparse' })
  })

  it('is cancelled like the other verbs', async () => {
    const controller = new AbortController()
    controller.abort()
    expect((await runCaptured(small, controller.signal)).exitCode).toBe(130)
  })

  it.each([
    [['--lengths', '0'], 'INVALID_ARGUMENT', /positive integers/],
    [['--lengths', 'long'], 'INVALID_ARGUMENT', /positive integers/],
    [['--methods', 'nothing'], 'INVALID_ARGUMENT', /no method 'nothing'/],
    [['--tiers', 'fast'], 'INVALID_ARGUMENT', /no tier 'fast'/],
    [['--option', 'xattention.threshold=2'], 'INVALID_OPTION', /threshold/],
    [['--head-dim', '12'], 'UNSUPPORTED', /headDim 12/],
    [['--kv-heads', '3'], 'INVALID_ARGUMENT', /cannot share 3 KV heads/],
    [['--grid', '8x8'], 'INVALID_ARGUMENT', /Both --grid and --lengths/],
    [['--grid', '8x'], 'INVALID_ARGUMENT', /such as 56x56/],
    [['--methods', 'xattention', '--case', 'dense'], 'INVALID_ARGUMENT', /Both --case and --methods/],
    [['--markdown', '/nowhere/bench.md'], 'INVALID_FILE', /nowhere/],
  ])('refuses %j', async (argv, code, message) => {
    expect(await refusal([...small, '--lengths', '16', ...argv])).toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })
})
