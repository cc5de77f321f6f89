import { createRuntime as createBaseRuntime, type Runtime, type RuntimeOptions } from '../runtime.js'
import { dawnPath } from './dawn.js'
import { type FindGpuOptions, findGpu } from './gpu.js'
import { loadTuning } from './tuning-file.js'

export * from '../index.js'
export { type AdapterKind, type FindGpuOptions, type FoundGpu, findGpu } from './gpu.js'
export { acceptSharedMemory } from './shared-memory.js'
export { loadTuning, saveTuning, tuningFile } from './tuning-file.js'

export interface NodeRuntimeOptions extends RuntimeOptions, FindGpuOptions {
  /** Hears what a user should know and is no error: once in a process that a software adapter is used. Default: `console.warn`. */
  readonly onNotice?: (notice: string) => void
}

/**
 * As in browsers, where a `device` or `gpu` is given. Without one, finds a GPU through the package `webgpu`, or an
 * adapter on the CPU, and says so (see `findGpu`).
 */
export async function createRuntime(given: NodeRuntimeOptions = {}): Promise<Runtime> {
  const { tuning: wanted, ...others } = given
  const tuning = wanted === 'cached' ? await loadTuning(given) : wanted
  const options = tuning === undefined ? others : { ...others, tuning }
  if (options.device !== undefined || options.gpu !== undefined) return createBaseRuntime(options)
  const { gpu, software } = await findGpu(options)
  return createBaseRuntime({ software, implementation: `dawn ${dawnPath().version}`, ...options, gpu })
}
