// For workers: onnxruntime-web with its files from this site.

import { download } from '@sparse-attention/models'
import type { Ort } from '@sparse-attention/onnxruntime'
import mjs from 'onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs?url'
import wasm from 'onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url'
import { bundledFiles } from './bundled-files.js'
import { bytesOf } from './bytes-of.js'
import type { JobContext } from './use-job.js'

/** The module to pass to `AttentionModel.load`, with its 27 MB of wasm. */
export async function loadOrt({ signal, report }: JobContext): Promise<Ort> {
  const ort = await import('onnxruntime-web/webgpu')
  const { env } = ort
  if (env.wasm.wasmBinary) return ort
  // Left to itself onnxruntime-web fetches it with the first session, and tells nobody how far it is.
  const { from, fetch } = bundledFiles({ 'ort.wasm': wasm })
  const onProgress = bytesOf('Loading onnxruntime-web', report)
  const { 'ort.wasm': binary } = await download(from, ['ort.wasm'], { fetch, signal, onProgress })
  env.wasm.wasmBinary = binary
  env.wasm.wasmPaths = { mjs: new URL(mjs, import.meta.url).href }
  // Threads share memory, which a browser allows only where the page is isolated.
  env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1
  return ort
}
