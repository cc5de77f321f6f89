import type { Runtime } from '@sparse-attention/core'

/** What a worker tells its page about the device. */
export interface DeviceInfo {
  /** As the browser describes the adapter; browsers say more or less of it. */
  readonly name: string
  readonly tier: string
  /** It computes on the CPU: correct, and slow. */
  readonly software: boolean
  /** The browser or other WebGPU, with its version. */
  readonly implementation: string
}

export function describeDevice(runtime: Runtime): DeviceInfo {
  const { vendor = '', architecture = '', description = '', device = '' } = runtime.adapterInfo ?? {}
  return {
    name:
      description || [vendor, architecture, device].filter(Boolean).join(' ') || 'a GPU that the browser does not name',
    tier: runtime.tier,
    software: runtime.software,
    implementation: runtime.implementation,
  }
}
