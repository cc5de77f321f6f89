import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createRuntime, loadTuning } from '@sparse-attention/core/node'
import { afterEach, beforeAll, beforeEach, expect, it, vi } from 'vitest'
import { parseDocumented } from '../../test/documented-schemas.js'
import { runCaptured } from '../../test/run-captured.js'
import type { TuneCommandReport } from './tune.js'

const small = ['tune', '--tier', 'portable', '--head-dim', '8', '--dtype', 'f32', '--lengths', '48']

let folder: string
// From the usual cache folder: those of the tests are gone when the driver is looked for again.
beforeAll(async () => (await createRuntime()).dispose())
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tune-test-'))
  vi.stubEnv('XDG_CACHE_HOME', folder)
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await rm(folder, { recursive: true, force: true })
})

it('keeps the table, which a runtime takes when asked to', async () => {
  const { exitCode, stdout } = await runCaptured([...small, '--mask', 'full', '--budget-ms', '1500', '--json'])
  expect(exitCode).toBe(0)
  const report = parseDocumented('tune', stdout) as TuneCommandReport
  expect(report.calls.map(({ causal, lengths }) => ({ causal, lengths }))).toEqual([{ causal: false, lengths: [48] }])
  expect(report.calls[0]!.variants.length).toBeGreaterThan(1)
  expect(report.file).toBe(join(folder, 'sparse-attention', 'tuning.json'))
  expect(await loadTuning()).toEqual(report.table)
  using runtime = await createRuntime({ tuning: 'cached' })
  expect(runtime.tuning).toEqual(report.table)
  expect(report.table.entries[0]!.adapter).toEqual(runtime.identity)
})

it('prints a table for each kind of call, the default first, and saves nothing when told so', async () => {
  const { exitCode, stdout } = await runCaptured([...small, '--budget-ms', '1', '--no-save'])
  expect(exitCode).toBe(0)
  expect(stdout).toMatch(
    /^head_dim 8, f32, causal: tuned in [\d.]+ s\n {2}variant +× at 48 +ms\n\* portable, slices 1, /,
  )
  expect(stdout).toMatch(/^head_dim 8, f32: tuned in /m)
  expect(stdout).toContain('no time')
  expect(stdout).toContain('Nothing was saved.')
  expect(await loadTuning()).toBeUndefined()
})

it('cancelled, it saves nothing', async () => {
  const controller = new AbortController()
  const running = runCaptured(small, controller.signal)
  setTimeout(() => controller.abort(), 300)
  expect((await running).exitCode).toBe(130)
  expect(await loadTuning()).toBeUndefined()
})

it.each([
  ['a size of a head that no attention takes', ['tune', '--head-dim', '12']],
  ['a list that is none', ['tune', '--head-dim', '64;128']],
])('refuses %s', async (_, argv) => {
  expect((await runCaptured(argv)).exitCode).toBe(2)
})
