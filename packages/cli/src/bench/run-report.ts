import { type AdapterReport, describeAdapter, nameAdapter } from '@sparse-attention/compare'
import type { Runtime, Tier } from '@sparse-attention/core'
import { listVersions } from './markdown.js'
import { benchVersions } from './versions.js'

/** What every run that writes figures says of itself. */
export interface RunReport {
  /** UTC, YYYY-MM-DD. */
  readonly date: string
  readonly command: string
  readonly tier: Tier
  readonly adapter: AdapterReport
  readonly versions: Readonly<Record<string, string | null>>
}

export function describeRun(runtime: Runtime, command: string): RunReport {
  return {
    date: new Date().toISOString().slice(0, 10),
    command,
    tier: runtime.tier,
    adapter: describeAdapter(runtime),
    versions: benchVersions(),
  }
}

/** One line for people. */
export function formatRun({ adapter, date, tier, versions, command }: RunReport): string {
  return `${nameAdapter(adapter)}, tier ${tier}, ${date}; ${listVersions(versions)}. \`${command}\``
}
