import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createRuntime } from '@sparse-attention/core/node'
import { quest } from '@sparse-attention/decode'
import { dense } from '@sparse-attention/kernels'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseDocumented } from '../../test/documented-schemas.js'
import { refusal } from '../../test/refusal.js'
import { runCaptured } from '../../test/run-captured.js'
import { SequenceReader } from '../bench/decode/check-token.js'
import type { DecodeReport } from '../bench/decode/report.js'
import { appendUpTo, sequenceCache } from '../bench/decode/sequences.js'
import { parseMethodCases } from '../bench/method-case.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bench-decode-'))
})
afterAll(() => rm(folder, { recursive: true }))

describe('bench decode', () => {
  it('times dense and methods over one sequence and over several, each checked first', {
    timeout: 180_000,
  }, async () => {
    const cases = [
      'quest:tokenBudget=n/4',
      'twilight:tokenBudget=n/2,topP=0.9,estimate=8',
      'sink-window:localWindow=28',
    ]
    const sizes = ['--keys', '128,200', '--groups', '2', '--batch', '2', '--batch-keys', '96', '--samples', '1']
    const argv = ['bench', 'decode', ...sizes, ...cases.flatMap((each) => ['--case', each]), '--out', folder, '--json']
    const { exitCode, stdout, stderr } = await runCaptured(argv)
    expect(exitCode, stderr).toBe(0)
    const report = parseDocumented('bench-decode', stdout) as DecodeReport
    expect(report).toMatchObject({ kvHeads: 2, headDim: 32, pageSize: 16, samples: 1, seed: 1 })
    expect(report.results.map(({ batch, keys, group, method }) => [batch, keys, group, method])).toEqual(
      [
        [1, 128],
        [1, 200],
        [2, 96],
      ].flatMap(([batch, keys]) =>
        ['dense', 'quest', 'twilight', 'sink-window'].map((method) => [batch, keys, 2, method]),
      ),
    )
    for (const result of report.results) {
      expect(result).toMatchObject({ status: 'timed', reason: null })
      expect(result.checkedError).toBeLessThan(1e-2) // halves
      const { total, attend, mass, keys, batch, density } = result
      expect(result.bytes).toBeCloseTo(4 * 32 * 2 * batch * keys * density!, 6)
      expect(result.copyShare).toBeCloseTo(
        result.bytes! / (attend!.medianMs / 1000) / report.ceilings.bytesPerSecond,
        9,
      )
      expect(mass!.least).toBeLessThanOrEqual(mass!.mean + 1e-6) // float32
      if (result.method === 'dense') expect(result).toMatchObject({ path: 'dense', density: 1, speedUp: 1 })
      else expect(density).toBeLessThan(1)
      const dense = report.results.find((other) => other.method === 'dense' && other.keys === keys)!
      expect(result.speedUp).toBeCloseTo(dense.total!.medianMs / total!.medianMs, 9)
    }
    // A quarter of the tokens in whole pages of 16.
    expect(report.results[1]!.keptKeys).toBe(32)

    const { seconds, ...written } = JSON.parse(await readFile(join(folder, 'decode.json'), 'utf8')) as DecodeReport
    expect(seconds).toBeLessThanOrEqual(report.seconds)
    expect({ ...written, seconds: report.seconds }).toEqual(report)
    const page = await readFile(join(folder, 'decode.md'), 'utf8')
    expect(page).toContain(`\`sparse-attention ${argv.join(' ')}\``)
    expect(page.split('\n').filter((line) => line.startsWith('| '))).toHaveLength(2 + 12)
  })

  it('measures cases that are the same at a length once there', async () => {
    const known = { known: ['quest', 'twilight'], refusal: 'is none' }
    const cases = ['quest:tokenBudget=n/16', 'quest:tokenBudget=2048', 'quest', 'quest:heads=sum']
    const at = async (length: number) =>
      (await parseMethodCases(cases, length, known)).map(({ options }) => options.tokenBudget)
    expect([await at(16384), await at(32768)]).toEqual([
      [1024, 2048, 5461],
      [2048, 10923],
    ])
  })

  it('finds an answer that is not of the selection', async () => {
    using runtime = await createRuntime({ onNotice: () => {} })
    const { signal } = new AbortController()
    using cache = await sequenceCache(runtime, { batch: 2, kvHeads: 2, headDim: 32, capacity: 96 })
    await appendUpTo(runtime, cache, 80, { seed: 3, signal })
    const config = { queryHeads: 4, kvHeads: 2, headDim: 32, dtype: 'f16', causal: true, pageSize: 16 } as const
    using q = runtime.tensor(
      'f16',
      [2, 4, 1, 32],
      Float32Array.from({ length: 256 }, (_, i) => Math.sin(i)),
    )
    using exact = await runtime.use(dense({ kernel: 'split' }), config)
    using sparse = await runtime.use(quest({ tokenBudget: 32 }), config)
    const reader = new SequenceReader(runtime, cache)
    const answer = async (attention: typeof exact) => {
      const { out, lse, plan } = await attention.run({ q, cache })
      const host = await plan.read()
      const found = { queryHeads: 4, scale: 32 ** -0.5, q: await runtime.read(q) }
      return { host, ...found, out: await runtime.read(out), lse: await runtime.read(lse) }
    }
    const [whole, part] = [await answer(exact), await answer(sparse)]
    expect(await reader.error(whole)).toBeLessThan(1e-2) // halves
    expect(await reader.error(part, part.host)).toBeLessThan(1e-2)
    expect(await reader.error(whole, part.host)).toBeGreaterThan(0.1)
    whole.out.fill(Number.NaN, 7 * 32) // of the last sequence and head
    expect(await reader.error(whole)).toBeNaN()
  })

  it.each([
    [['--case', 'xattention'], 'INVALID_ARGUMENT', /does not run token by token/],
    [['--case', 'quest:tokenBudget=-1'], 'INVALID_OPTION', /tokenBudget/],
    [['--keys', '0'], 'INVALID_ARGUMENT', /positive integers/],
    [['--out', '/dev/null/there'], 'INVALID_FILE', /dev\/null/],
  ])('refuses %j', async (argv, code, message) => {
    expect(await refusal(['bench', 'decode', ...argv])).toMatchObject({ code, message: expect.stringMatching(message) })
  })
})
