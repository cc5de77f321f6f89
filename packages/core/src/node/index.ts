import { createRuntime as createBaseRuntime, type Runtime, type RuntimeOptions } from '../runtime.js'
import { type FindGpuOptions, findGpu } from './gpu.js'

export * from '../index.js'
export { type AdapterKind, type FindGpuOptions, type FoundGpu, findGpu } from './gpu.js'
export { acceptSharedMemory } from './shared-memory.js'

export interface NodeRuntimeOptions extends RuntimeOptions, FindGpuOptions {}

/**
 * As in browsers, where a `device` or `gpu` is given. Without one, finds a GPU through the package `webgpu`, or an
 * adapter on the CPU, and says so (see `findGpu`).
 */
export async function createRuntime(options: NodeRuntimeOptions = {}): Promise<Runtime> {
  if (options.device !== undefined || options.gpu !== undefined) return createBaseRuntime(options)
  const { gpu, software } = await findGpu(options)
  return createBaseRuntime({ software, ...options, gpu })
}
