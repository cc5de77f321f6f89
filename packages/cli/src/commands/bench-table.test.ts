import { execFile } from 'node:child_process'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseDocumented } from '../../test/documented-schemas.js'
import { refusal } from '../../test/refusal.js'
import { runCaptured } from '../../test/run-captured.js'
import type { TableReport } from '../bench/table/report.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bench-table-'))
})
afterAll(() => rm(folder, { recursive: true }))

/** A Python whose cuDNN takes 2 ms, wherever it runs. */
async function standIn(): Promise<string> {
  const timing = { medianMs: 2, p10Ms: 2, p90Ms: 2 }
  const call = { length: 512, heads: 2, headDim: 32, causal: true, status: 'timed', reason: null, checkedError: 1e-4 }
  const results = ['flash-attention', 'cudnn'].map((backend) => ({ backend, ...call, gpu: timing }))
  const path = join(folder, 'python')
  const report = JSON.stringify({ versions: { torch: '2' }, device: 'a GPU', results })
  await writeFile(path, `#!/bin/sh\ncat <<'END'\n${report}\nEND\n`)
  await chmod(path, 0o755)
  return path
}

const rows =
  '^(causal/head-dim-64|decode/group-4|tiers/f16|long-prompt|series/density/blocks of 64/(0.1|1)|series/length/dense/131072)$'

describe('bench table', () => {
  it('measures rows end to end, writes them down, and its charts can be drawn', { timeout: 180_000 }, async () => {
    const out = join(folder, 'results')
    const argv = ['bench', 'table', '--rows', rows, '--python', await standIn(), '--out', out, '--json']
    const { exitCode, stdout, stderr } = await runCaptured([...argv, '--scale', 'tiny', '--samples', '1'])
    expect(exitCode, stderr).toBe(0)
    const report = parseDocumented('bench-table', stdout) as TableReport
    expect(report).toMatchObject({ scale: 'tiny', samples: 1, seed: 1, pytorch: { reason: null } })

    expect(report.rows.map(({ name }) => name)).toEqual([
      'causal/head-dim-64',
      'decode/group-4',
      'tiers/f16',
      'long-prompt',
    ])
    for (const row of report.rows) {
      if (row.status === 'not available') {
        expect(row).toMatchObject({ value: null, met: null, reason: expect.any(String) })
        continue
      }
      expect(row).toMatchObject({ status: 'measured', reason: null })
      const { atLeast = 0, atMost = Number.POSITIVE_INFINITY } = { ...row.target } as Record<string, number>
      expect(row.met).toBe(row.value! >= atLeast && row.value! <= atMost)
      expect(row.checkedError).toBeLessThanOrEqual(1e-2)
      for (const { p10Ms, medianMs, p90Ms } of Object.values(row.times)) {
        expect(p10Ms).toBeLessThanOrEqual(medianMs)
        expect(medianMs).toBeLessThanOrEqual(p90Ms)
      }
    }
    const [causal, decode, , long] = report.rows
    const { causal: half, 'not causal': whole } = causal!.times
    expect(causal!.value).toBeCloseTo(half!.medianMs / (whole!.medianMs / 2), 9)
    const seconds = decode!.times.attend!.medianMs / 1000
    expect(decode!.value).toBeCloseTo(decode!.bytes! / seconds / report.ceilings.bytesPerSecond, 9)
    expect(long!.value).toBeCloseTo(long!.times['planning and attend']!.medianMs / 2, 9)
    expect(long!.density).toBeGreaterThan(0)
    expect(long!.recall).toBeLessThanOrEqual(1)

    expect(report.series.every(({ status }) => status === 'measured')).toBe(true)
    const densities = report.series.filter(({ chart }) => chart === 'density').map(({ density }) => density!)
    expect(densities).toEqual([...densities].sort((a, b) => a - b))
    expect(densities.at(-1)).toBe(1)

    expect(JSON.parse(await readFile(join(out, 'table.json'), 'utf8'))).toEqual(report)
    const page = await readFile(join(out, 'table.md'), 'utf8')
    expect(page).toContain(`\`sparse-attention ${argv.join(' ')}`)
    expect(page).toContain('| cudnn | 512 | yes | 2.00')
    const root = join(import.meta.dirname, '../../../..')
    await promisify(execFile)(process.execPath, [join(root, 'scripts/bench/charts.mjs'), out])
    expect(await readFile(join(out, 'time-against-density.svg'), 'utf8')).toContain('blocks of 64')
    expect(await readFile(join(out, 'speed-against-length.svg'), 'utf8')).toContain('PyTorch cuDNN, dense')

    const readme = join(folder, 'README.md')
    await writeFile(readme, 'a\n<!-- table: written by scripts/bench/summary.mjs -->\nold\n<!-- end of table -->\nz\n')
    for (let times = 0; times < 2; times++)
      await promisify(execFile)(process.execPath, [join(root, 'scripts/bench/summary.mjs'), out])
    const summary = await readFile(readme, 'utf8')
    expect(summary).toMatch(/^a\n<!--[\s\S]*\| one token, 4 query heads[\s\S]*<!-- end of table -->\nz\n$/)
    expect(summary).toMatch(/\(results\/table\.json\)/)
    expect(summary).not.toContain('\nold\n')
  })

  it('goes on with a table where it ended, and refuses one of other settings', { timeout: 120_000 }, async () => {
    const out = join(folder, 'parts')
    const run = (...argv: string[]) =>
      runCaptured(['bench', 'table', '--scale', 'tiny', '--no-pytorch', '--out', out, '--json', ...argv])
    const parsed = async (...argv: string[]) => {
      const { exitCode, stdout, stderr } = await run(...argv)
      expect(exitCode, stderr).toBe(0)
      return parseDocumented('bench-table', stdout) as TableReport
    }
    const first = await parsed('--rows', '^(decode/group-1|tiers/portable)$')
    expect(first.parts).toEqual([expect.objectContaining({ measured: 2 })])
    // What it has already is measured again only where it is asked for.
    const second = await parsed('--rows', '^(decode/group-4|tiers/portable)$', '--resume')
    const names = ['decode/group-4', 'decode/group-1', 'tiers/portable']
    expect(second.rows.map(({ name }) => name)).toEqual(names)
    expect(second.rows[1]).toEqual(first.rows[0])
    expect(second.rows[2]).not.toEqual(first.rows[1])
    expect(second.parts.map(({ measured }) => measured)).toEqual([2, 2])
    expect(second.missing).toBe(first.missing - 1)
    expect(second.seconds).toBeCloseTo(second.parts[0]!.seconds + second.parts[1]!.seconds, 6)

    const soon = await parsed('--resume', '--stop-after', '1')
    expect(soon.rows.length + soon.series.length).toBe(3 + soon.parts[2]!.measured)
    expect(soon.missing).toBeGreaterThan(0)
    expect(soon.rows.filter(({ name }) => names.includes(name))).toEqual(second.rows)

    const other = await run('--resume', '--seed', '2')
    expect(other.exitCode).toBe(2)
    expect(other.stdout).toMatch(/seed 1, this run has 2/)
    expect(await refusal(['bench', 'table', '--resume'])).toMatchObject({ code: 'INVALID_ARGUMENT' })
    await writeFile(join(out, 'table.json'), '{}')
    expect(await refusal(['bench', 'table', '--resume', '--out', out])).toMatchObject({ code: 'INVALID_FILE' })
  })

  it('says what is not there, and goes on', { timeout: 60_000 }, async () => {
    const argv = ['bench', 'table', '--rows', '^(dense/toggles|onnxruntime-web|long-prompt/none)$', '--scale', 'tiny']
    const { exitCode, stdout } = await runCaptured([...argv, '--no-pytorch'])
    expect(exitCode).toBe(0)
    expect(stdout).toMatch(/^dense\/toggles +≥ 200 TFLOPS +(not available|\d)/m)
    expect(stdout).toMatch(/^onnxruntime-web/m)
    expect(stdout).toContain('PyTorch: left out.')
  })

  it('is cancelled like the other verbs', async () => {
    const controller = new AbortController()
    controller.abort()
    expect((await runCaptured(['bench', 'table'], controller.signal)).exitCode).toBe(130)
  })

  it.each([
    [['--rows', '('], 'INVALID_ARGUMENT', /regular expression/],
    [['--rows', 'nothing'], 'INVALID_ARGUMENT', /No row's name matches/],
    [['--scale', 'huge'], 'INVALID_ARGUMENT', /auto, full, tiny/],
    [['--out', '/dev/null/there'], 'INVALID_FILE', /dev\/null/],
    [['--markdown', '/nowhere/table.md'], 'INVALID_FILE', /nowhere/],
  ])('refuses %j', async (argv, code, message) => {
    expect(await refusal(['bench', 'table', ...argv])).toMatchObject({ code, message: expect.stringMatching(message) })
  })
})
