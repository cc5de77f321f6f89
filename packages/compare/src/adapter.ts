import type { Runtime } from '@sparse-attention/core'

/** What ran the work, beside every figure. */
export interface AdapterReport {
  readonly vendor: string
  readonly architecture: string
  readonly device: string
  readonly description: string
  /** It runs on the CPU: correct, and slow. */
  readonly software: boolean
}

export function describeAdapter({ adapterInfo, software }: Pick<Runtime, 'adapterInfo' | 'software'>): AdapterReport {
  const { vendor = '', architecture = '', device = '', description = '' } = adapterInfo ?? {}
  return { vendor, architecture, device, description, software }
}

/** One line for people. */
export function nameAdapter({ vendor, architecture, device, description, software }: AdapterReport): string {
  const name = description || [vendor, architecture, device].filter(Boolean).join(' ') || 'unnamed adapter'
  return software ? `${name} (on the CPU)` : name
}
