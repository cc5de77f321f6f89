import { arch, platform } from 'node:process'
import { type AdapterReport, describeAdapter, nameAdapter } from '@sparse-attention/compare'
import { type Runtime, SparseAttentionError, type Tier, type TierReport } from '@sparse-attention/core'
import { createRuntime } from '@sparse-attention/core/node'
import { Command } from 'commander'
import { cliVersion, installedVersion } from '../package-info.js'
import { formatTable } from '../table.js'
import { exitCodes, type Output, ReportedFailure } from '../terminal.js'

/** What `doctor --json` prints. */
export interface DoctorReport {
  readonly platform: string
  /** Absent packages are null. */
  readonly versions: Readonly<Record<string, string | null>>
  /** Null where nothing can run. */
  readonly adapter: AdapterReport | null
  readonly features: Readonly<Record<string, boolean>>
  readonly limits: Readonly<Record<string, number>>
  readonly tiers: readonly { readonly tier: Tier; readonly usable: boolean; readonly reason: string }[]
  /** The tier that `--tier auto` takes. */
  readonly tier: Tier | null
  readonly problems: readonly Problem[]
}

export interface Problem {
  /** Nothing runs while it is there. */
  readonly blocking: boolean
  readonly problem: string
  readonly fix: string
}

/** Features that decide the tier and what can be measured. */
const features = [
  'shader-f16',
  'subgroups',
  'chromium-experimental-subgroup-matrix',
  'subgroup-size-control',
  'timestamp-query',
]

/** Limits that decide how long a sequence and how large a tile may be. */
const limits = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupsPerDimension',
] as const

/** Packages that are used where they are installed, and what is missing without them. */
const packages: readonly { name: string; without: string }[] = [
  { name: 'webgpu', without: 'nothing runs in Node' },
  { name: '@sparticuz/chromium', without: 'there is no software adapter (SwiftShader, linux-x64)' },
  { name: 'onnxruntime-web', without: 'no model runs, and so no demo' },
  { name: 'sharp', without: 'there are no pictures' },
]

export function doctorCommand(output: (json: boolean) => Output): Command {
  return new Command('doctor')
    .description('what this machine offers, which tier runs and why, what is missing and how to get it')
    .option('--json', 'print one JSON object')
    .action(async ({ json = false }: { json?: boolean }) => {
      const out = output(json)
      const report = await examine()
      out.result(report, formatReport(report))
      if (report.adapter === null) throw new ReportedFailure(exitCodes.badInput)
    })
}

/** Looks at the machine. Where nothing can run, the report says so: nothing is thrown. */
export async function examine(): Promise<DoctorReport> {
  const versions = Object.fromEntries(packages.map(({ name }) => [name, installedVersion(name) ?? null]))
  const base = {
    platform: `${platform}-${arch}`,
    versions: { node: process.versions.node, '@sparse-attention/cli': cliVersion, ...versions },
  }
  const missing = packages.flatMap(({ name, without }): Problem[] =>
    versions[name] === null
      ? [{ blocking: false, problem: `${name} is not installed: ${without}.`, fix: `Run \`npm install ${name}\`.` }]
      : [],
  )
  try {
    using runtime = await createRuntime({ onNotice: () => {} }) // the report says it itself
    return { ...base, ...describeRuntime(runtime), problems: [...runtimeProblems(runtime), ...missing] }
  } catch (error) {
    if (!SparseAttentionError.is(error)) throw error
    const problem = error.message.replace(error.fix, '').trim()
    const problems = [{ blocking: true, problem, fix: error.fix }, ...missing]
    return { ...base, adapter: null, features: {}, limits: {}, tiers: [], tier: null, problems }
  }
}

function describeRuntime(runtime: Runtime): Pick<DoctorReport, 'adapter' | 'features' | 'limits' | 'tiers' | 'tier'> {
  const { device, tier, tierReports } = runtime
  return {
    adapter: describeAdapter(runtime),
    features: Object.fromEntries(features.map((name) => [name, device.features.has(name as GPUFeatureName)])),
    limits: Object.fromEntries(limits.map((name) => [name, device.limits[name]])),
    tiers: tierReports.map((report) => ({
      tier: report.tier,
      usable: report.offered && report.implemented,
      reason: whyTier(report),
    })),
    tier,
  }
}

function runtimeProblems({ software, tierReports }: Runtime): Problem[] {
  return [...(software ? [noHardware] : []), ...tierReports.flatMap((report) => tierProblem(report, software))]
}

const noHardware: Problem = {
  blocking: false,
  problem: 'No GPU was found, so everything runs on the CPU: correct, and hundreds of times slower.',
  fix: 'On Linux install the Vulkan driver of the GPU and the Vulkan loader (libvulkan1), or run in a browser.',
}

function whyTier({ offered, implemented, missing }: TierReport): string {
  if (!offered) return `the device lacks ${missing.join(' and ')}`
  return implemented ? 'offered by the device' : 'offered by the device, but this version has no kernels for it'
}

function tierProblem({ tier, offered, implemented, missing }: TierReport, software: boolean): Problem[] {
  if (!offered) {
    const fix = software
      ? 'Use a GPU: this software adapter does not have it.'
      : 'Update the driver of the GPU; where the GPU itself lacks it, the next tier runs instead.'
    return [{ blocking: false, problem: `Tier ${tier} needs ${missing.join(' and ')}.`, fix }]
  }
  if (implemented) return []
  const fix = 'Nothing is wrong here: the best tier that has kernels runs instead.'
  return [{ blocking: false, problem: `Tier ${tier} is offered, but this version has no kernels for it.`, fix }]
}

function formatReport(report: DoctorReport): string {
  const { adapter, tier, problems } = report
  const rows: string[][] = [
    ['platform', report.platform],
    ...Object.entries(report.versions).map(([name, version]) => [name, version ?? 'not installed']),
    ['adapter', adapter ? nameAdapter(adapter) : 'none'],
  ]
  if (adapter) {
    rows.push(
      ['vendor', adapter.vendor || '(not told)'],
      ['architecture', adapter.architecture || '(not told)'],
      ['device', adapter.device || '(not told)'],
    )
  }
  for (const [name, has] of Object.entries(report.features)) rows.push([name, has ? 'yes' : 'no'])
  for (const [name, value] of Object.entries(report.limits)) rows.push([name, value.toLocaleString('en-US')])
  for (const { tier: name, usable, reason } of report.tiers) {
    rows.push([`tier ${name}`, `${name === tier ? 'CHOSEN, ' : usable ? 'usable, ' : ''}${reason}`])
  }
  const found = problems.map(({ problem, fix }) => `- ${problem}\n  ${fix}`)
  return `${formatTable(rows)}\n\n${found.length === 0 ? 'Nothing is missing.' : `What is missing:\n${found.join('\n')}`}`
}
