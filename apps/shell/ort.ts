// For workers: onnxruntime-web with its files from this site.

import type { Ort } from '@sparse-attention/onnxruntime'
import mjs from 'onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs?url'
import wasm from 'onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url'

/** The module to pass to `AttentionModel.load`. Its wasm (27 MB) is fetched with the first session. */
export async function loadOrt(): Promise<Ort> {
  const ort = await import('onnxruntime-web/webgpu')
  const absolute = (url: string): string => new URL(url, import.meta.url).href
  ort.env.wasm.wasmPaths = { mjs: absolute(mjs), wasm: absolute(wasm) }
  // Threads share memory, which a browser allows only where the page is isolated.
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1
  return ort
}
