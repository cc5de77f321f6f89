import type { ConfiguredMethod, Runtime } from '@sparse-attention/core'
import { cacheForMethods } from '@sparse-attention/decode'
import type { LanguageModel } from '@sparse-attention/models'
import { AttentionModel, type ModelCache } from '@sparse-attention/onnxruntime'
import { loadOrt } from '@sparse-attention/onnxruntime/node'
import type { Output } from '../terminal.js'

export interface LoadedForGeneration {
  readonly model: AttentionModel
  /** A cache in pages, with what methods for decoding want to know of them. */
  createCache(capacity: number): Promise<ModelCache>
}

/** Tokens of a page: Quest's. */
const pageSize = 16

/**
 * Loads the demo model to generate with, a progress bar while it does.
 *
 * @param capacity tokens of prompt and text together, at most
 * @param capture false: onnxruntime-web's dispatches are not recorded. Default true, for adapters that are not software
 */
export async function loadForGeneration(
  runtime: Runtime,
  language: LanguageModel,
  methods: { readonly prefill: ConfiguredMethod; readonly decode: ConfiguredMethod },
  { capacity, capture = true }: { readonly capacity: number; readonly capture?: boolean },
  { signal, progress }: Pick<Output, 'signal' | 'progress'>,
): Promise<LoadedForGeneration> {
  const ort = await loadOrt(runtime)
  let bar: ReturnType<Output['progress']> | undefined
  try {
    const model = await AttentionModel.load(runtime, ort, language.model, {
      attention: () => methods,
      cache: { pageSize },
      ...(capture && { captureSteps: { capacity } }),
      preferredOutputLocation: 'gpu-buffer',
      // Weights are made float32 once, not for every token.
      sessionOptions: { extra: { session: { disable_quant_qdq: '1' } } },
      signal,
      onProgress: ({ total, step }) => {
        bar ??= progress(total)
        bar.step(step)
      },
    })
    const createCache = (capacity: number) => model.createCache({ capacity, kvCache: cacheForMethods(pageSize) })
    return { model, createCache }
  } finally {
    bar?.stop()
  }
}
