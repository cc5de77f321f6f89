import { availableParallelism } from 'node:os'
import type { Runtime } from '@sparse-attention/core'
import { findGpu } from '@sparse-attention/core/node'
import type { Ort, Provider } from '../ort.js'

export interface LoadOrtOptions {
  /** As given to `AttentionModel.load`. Default 'auto': 'wasm' on a software adapter, else 'webgpu'. */
  readonly provider?: Provider | 'auto'
  /** Threads of the wasm provider. Default: one a core, at most 4. */
  readonly threads?: number
}

/**
 * The build of onnxruntime-web that fits a runtime in Node. Browsers import `onnxruntime-web/webgpu` themselves.
 *
 * For 'wasm' the build for Node, which has threads. For 'webgpu' the build for browsers, single-threaded since it cannot
 * start its threads in Node; it also looks for `navigator.gpu`, which is defined where it is missing.
 */
export async function loadOrt(runtime: Runtime, options: LoadOrtOptions = {}): Promise<Ort> {
  const { provider = 'auto' } = options
  if (provider === 'wasm' || (provider === 'auto' && runtime.software)) {
    const ort = await import('onnxruntime-web')
    ort.env.wasm.numThreads = options.threads ?? Math.min(4, availableParallelism())
    return ort
  }
  const { gpu } = await findGpu({ adapter: runtime.software ? 'software' : 'auto', onNotice: () => {} })
  if (globalThis.navigator === undefined) {
    Object.defineProperty(globalThis, 'navigator', { value: { gpu }, configurable: true, writable: true })
  } else if (globalThis.navigator.gpu === undefined) {
    Object.defineProperty(globalThis.navigator, 'gpu', { value: gpu, configurable: true })
  }
  const ort = await import('onnxruntime-web/webgpu')
  ort.env.wasm.numThreads = 1
  return ort
}
