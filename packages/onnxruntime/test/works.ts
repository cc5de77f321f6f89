import type { Runtime } from '@sparse-attention/core'
import { pagedKVCache, sinkWindow } from '@sparse-attention/decode'
import { dense } from '@sparse-attention/kernels'
import { AttentionModel, type LoadOptions } from '../src/index.js'
import type { Harness } from './harness.js'
import { tinyCode, tinyFlowModel } from './tiny-flow.js'
import { tinyLlamaFeeds, tinyLlamaModel, tinyPrompt } from './tiny-llama.js'

/** What a model does, for tests of what happens in the middle of it, and of what is left. */
export interface Work {
  /** What the work makes; the same again each time. */
  run(signal?: AbortSignal): Promise<unknown>
  dispose(): Promise<void>
}

/** A tiny model with onnxruntime-web on the CPU and attention on the GPU. */
const load = ({ ort }: Harness, runtime: Runtime, bytes: Uint8Array, options: Partial<LoadOptions>) =>
  AttentionModel.load(runtime, ort, bytes, { provider: 'wasm', attention: () => dense(), ...options })

/** Loads a model for it, on a runtime that need not be the harness's. */
export const works: Readonly<
  Record<'a prompt' | 'a text' | 'a text from pages' | 'a video', (harness: Harness, runtime: Runtime) => Promise<Work>>
> = {
  'a prompt': async (harness, runtime) => {
    const model = await load(harness, runtime, tinyLlamaModel(), {})
    return {
      async run(signal) {
        const feeds = tinyLlamaFeeds(harness, tinyPrompt)
        const { logits } = await model.run(feeds, { outputs: ['logits'], ...(signal && { signal }) })
        return Array.from(logits!.data as Float32Array)
      },
      dispose: () => model.dispose(),
    }
  },
  'a text': async (harness, runtime) => {
    const model = await load(harness, runtime, tinyLlamaModel(), { cache: true })
    return { run: (signal) => write(model, 2, signal), dispose: () => model.dispose() }
  },
  'a text from pages': async (harness, runtime) => {
    const attention = { prefill: dense(), decode: sinkWindow({ localWindow: 64 }) }
    const model = await load(harness, runtime, tinyLlamaModel(), {
      cache: { pageSize: 16 },
      attention: () => attention,
    })
    return {
      async run(signal) {
        using cache = await model.createCache({
          capacity: 48,
          kvCache: (runtime, config) => pagedKVCache(runtime, { ...config, pageSize: 16 }),
        })
        return await write(model, 2, signal, cache)
      },
      dispose: () => model.dispose(),
    }
  },
  'a video': async (harness, runtime) => {
    const model = await load(harness, runtime, tinyFlowModel(), {})
    const condition = tinyCode(harness, 1)
    const inputs = { latents: 'latents', time: 'timestep' }
    const asked = {
      shape: [1, 6, 4],
      grid: [1, 2, 3],
      inputs,
      steps: 3,
      guidance: 2,
      condition,
      nullCondition: condition,
    }
    return {
      run: async (signal) => Array.from(await model.sample({ ...asked, ...(signal && { signal }) })),
      dispose: () => model.dispose(),
    }
  },
}

type Cache = Awaited<ReturnType<AttentionModel['createCache']>>

async function write(
  model: AttentionModel,
  maxNewTokens: number,
  signal?: AbortSignal,
  cache?: Cache,
): Promise<number[]> {
  const tokens: number[] = []
  const options = { maxNewTokens, ...(signal && { signal }), ...(cache && { cache }) }
  for await (const { token } of model.generate(tinyPrompt, options)) tokens.push(token)
  return tokens
}
