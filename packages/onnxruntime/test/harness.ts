import { type Runtime, relativeError } from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import { testRuntime } from '@sparse-attention/testing'
import type * as OnnxRuntime from 'onnxruntime-web'
import type { InferenceSession, Tensor } from 'onnxruntime-web'
import { expect } from 'vitest'
import { AttentionModel, type LoadOptions } from '../src/index.js'

/** onnxruntime-web's own result may differ by the order of sums. The goal of the package, see its README. */
export const TOLERANCE = 1e-3

export interface Harness {
  readonly runtime: Runtime
  readonly ort: typeof OnnxRuntime
  /** A feed. */
  tensor(type: 'float32' | 'int64' | 'int32', dims: readonly number[], data: ArrayLike<number>): Tensor
  /** The whole model on onnxruntime-web's wasm provider. */
  reference(bytes: Uint8Array, feeds: Record<string, Tensor>): Promise<Record<string, Tensor>>
  /** The model with all its attentions replaced by `dense`, unless `options` choose otherwise. */
  load(bytes: Uint8Array, options?: Partial<LoadOptions>): Promise<AttentionModel>
}

export async function createHarness(provider: 'wasm' | 'webgpu' = 'wasm'): Promise<Harness> {
  const runtime = await testRuntime()
  const ort = await loadOrt(runtime, provider)
  return {
    runtime,
    ort,
    tensor(type, dims, data) {
      if (type === 'float32') return new ort.Tensor(type, Float32Array.from(data), dims)
      if (type === 'int32') return new ort.Tensor(type, Int32Array.from(data), dims)
      return new ort.Tensor(type, BigInt64Array.from(Array.from(data, BigInt)), dims)
    },
    async reference(bytes, feeds) {
      const options: InferenceSession.SessionOptions = { executionProviders: ['wasm'], logSeverityLevel: 3 }
      const session = await ort.InferenceSession.create(bytes, options)
      try {
        return (await session.run(feeds)) as Record<string, Tensor>
      } finally {
        await session.release()
      }
    },
    load: (bytes, options) =>
      AttentionModel.load(runtime, ort, bytes, { provider, attention: () => dense(), ...options }),
  }
}

/** Counts runs of onnxruntime-web's sessions until it is disposed of. */
export function countRuns(ort: typeof OnnxRuntime): { runs: number } & Disposable {
  const sessions = (ort.InferenceSession as unknown as { readonly prototype: InferenceSession }).prototype
  const { run } = sessions
  const count = {
    runs: 0,
    [Symbol.dispose]: () => {
      sessions.run = run
    },
  }
  sessions.run = function (this: InferenceSession, ...args: Parameters<typeof run>) {
    count.runs++
    return run.apply(this, args)
  } as typeof run
  return count
}

async function loadOrt(runtime: Runtime, provider: 'wasm' | 'webgpu'): Promise<typeof OnnxRuntime> {
  if (!('document' in globalThis)) {
    const node = await import('../src/node/index.js')
    return (await node.loadOrt(runtime, { provider, threads: 1 })) as typeof OnnxRuntime
  }
  const ort = await import('onnxruntime-web/webgpu')
  const { default: wasm } = await import('onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url')
  ort.env.wasm.wasmPaths = { wasm }
  ort.env.wasm.numThreads = 1
  return ort
}

/** Compares every output with the reference's: the same names, shapes and, within `TOLERANCE`, numbers. */
export async function expectSameOutputs(
  actual: Readonly<Record<string, Tensor>>,
  expected: Readonly<Record<string, Tensor>>,
): Promise<void> {
  expect(Object.keys(actual).sort()).toEqual(Object.keys(expected).sort())
  for (const [name, wanted] of Object.entries(expected)) {
    const got = actual[name]!
    expect([name, ...got.dims]).toEqual([name, ...wanted.dims])
    const error = relativeError((await got.getData()) as Float32Array, wanted.data as Float32Array)
    expect(error, name).toBeLessThan(TOLERANCE)
  }
}
