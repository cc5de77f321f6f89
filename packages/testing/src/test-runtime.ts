import { createRuntime, type Runtime, type Tier } from '@sparse-attention/core'

let shared: Promise<Runtime> | undefined
const forced = new Map<Tier, Promise<Runtime>>()

/**
 * The runtime that all cases of a test file share: compiling is slow on a software adapter, and a device for each case
 * would exhaust it. Never skipped: without an adapter it rejects with WEBGPU_UNAVAILABLE, and the cases fail.
 *
 * @param tier  Default: the best one that the adapter offers. Runtimes of all tiers are on one device.
 */
export function testRuntime(tier?: Tier): Promise<Runtime> {
  shared ??= createRuntime()
  if (tier === undefined) return shared
  const made = forced.get(tier) ?? shared.then((runtime) => onSameDevice(runtime, tier))
  forced.set(tier, made)
  return made
}

async function onSameDevice(runtime: Runtime, tier: Tier): Promise<Runtime> {
  if (runtime.tier === tier) return runtime
  const { device, adapterInfo } = runtime
  return createRuntime({ device, tier, ...(adapterInfo && { adapterInfo }) })
}

/** The tiers that the adapter offers and this version has kernels for, best first. Without an adapter: the plain one. */
export async function testTiers(): Promise<Tier[]> {
  try {
    const { tierReports } = await testRuntime()
    return tierReports.filter(({ offered, implemented }) => offered && implemented).map(({ tier }) => tier)
  } catch {
    // Its cases then fail one by one, and say why.
    return ['portable']
  }
}
