import { createRuntime, type Runtime } from '@sparse-attention/core'

const made = new WeakMap<Runtime, Promise<Runtime>>()

/**
 * A runtime on the same device that cuts work into submits of a million operations. One for each runtime: kernels are compiled
 * once for all that need it.
 */
export function cuttingRuntime(runtime: Runtime): Promise<Runtime> {
  const { device, adapterInfo, tier } = runtime
  const known = made.get(runtime)
  if (known) return known
  const work = { operationsPerDispatch: 1e6, operationsPerSubmit: 1e6 }
  const one = createRuntime({ device, tier, work, ...(adapterInfo && { adapterInfo }) })
  made.set(runtime, one)
  return one
}
