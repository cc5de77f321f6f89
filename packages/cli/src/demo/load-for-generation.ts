import type { ConfiguredMethod, Runtime } from '@sparse-attention/core'
import type { LanguageModel } from '@sparse-attention/models'
import { AttentionModel, type ModelCache } from '@sparse-attention/onnxruntime'
import { loadOrt } from '@sparse-attention/onnxruntime/node'
import type { Output } from '../terminal.js'

export interface LoadedForGeneration {
  readonly model: AttentionModel
  createCache(capacity: number): Promise<ModelCache>
}

/** Loads the demo model to generate with, a progress bar while it does. */
export async function loadForGeneration(
  runtime: Runtime,
  language: LanguageModel,
  methods: { readonly prefill: ConfiguredMethod; readonly decode: ConfiguredMethod },
  { signal, progress }: Pick<Output, 'signal' | 'progress'>,
): Promise<LoadedForGeneration> {
  const ort = await loadOrt(runtime)
  let bar: ReturnType<Output['progress']> | undefined
  try {
    const model = await AttentionModel.load(runtime, ort, language.model, {
      attention: () => methods,
      cache: true,
      preferredOutputLocation: 'gpu-buffer',
      // Weights are made float32 once, not for every token.
      sessionOptions: { extra: { session: { disable_quant_qdq: '1' } } },
      signal,
      onProgress: ({ total, step }) => {
        bar ??= progress(total)
        bar.step(step)
      },
    })
    return { model, createCache: (capacity) => model.createCache({ capacity }) }
  } finally {
    bar?.stop()
  }
}
