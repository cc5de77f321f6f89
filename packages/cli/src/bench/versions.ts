import type { Command } from 'commander'
import { cliVersion, installedVersion } from '../package-info.js'

/** Of what is behind a figure. */
export function benchVersions(): Record<string, string | null> {
  const packages = ['webgpu', 'onnxruntime-web'].map((name) => [name, installedVersion(name) ?? null])
  return { node: process.versions.node, '@sparse-attention/cli': cliVersion, ...Object.fromEntries(packages) }
}

/** What was typed, to be written beside the figures. */
export function commandLine(command: Command): string {
  let root: Command = command
  while (root.parent) root = root.parent
  const { rawArgs = [] } = root as Command & { rawArgs?: readonly string[] }
  return ['sparse-attention', ...rawArgs].join(' ')
}
