import { afterEach, expect, it, vi } from 'vitest'
import { parseDocumented } from '../../test/documented-schemas.js'
import { runCaptured } from '../../test/run-captured.js'
import type { DoctorReport } from './doctor.js'

afterEach(() => vi.unstubAllEnvs())

it('tells the adapter, the tiers and why one was chosen', async () => {
  const { exitCode, stdout, stderr } = await runCaptured(['doctor', '--json'])
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' })
  const report = parseDocumented('doctor', stdout) as DoctorReport
  expect(report.versions.node).toBe(process.versions.node)
  expect(report.versions.webgpu).toMatch(/^\d+\.\d+\.\d+/)
  expect(report.adapter).not.toBeNull()
  // The order is from the best to the one that always works; the first usable one is taken.
  expect(report.tiers.map(({ tier }) => tier)).toEqual(['matrix', 'f16', 'portable'])
  expect(report.tiers.find(({ usable }) => usable)?.tier).toBe(report.tier)
  for (const { usable, reason } of report.tiers)
    expect(reason).toMatch(usable ? /^offered by the device$/ : /lacks|no kernels/)
  const noHardware = report.problems.filter(({ problem }) => problem.startsWith('No GPU was found'))
  expect(noHardware).toHaveLength(report.adapter!.software ? 1 : 0)
})

it('says the same in words', async () => {
  const { exitCode, stdout } = await runCaptured(['doctor'])
  expect(exitCode).toBe(0)
  expect(stdout).toMatch(/^tier portable +(CHOSEN|usable), offered by the device$/m)
  expect(stdout).toMatch(/^maxStorageBufferBindingSize +[\d,]+$/m)
})

it('reports, and fails, where no adapter can be had', async () => {
  vi.stubEnv('SPARSE_ATTENTION_ADAPTER', 'imaginary')
  const { exitCode, stdout } = await runCaptured(['doctor', '--json'])
  expect(exitCode).toBe(2)
  const report = parseDocumented('doctor', stdout) as DoctorReport
  expect(report).toMatchObject({ adapter: null, tier: null, tiers: [] })
  const [first] = report.problems
  expect(first).toMatchObject({ blocking: true, problem: "adapter is 'imaginary'." })
  expect(first!.fix).toMatch(/SPARSE_ATTENTION_ADAPTER/)
})
