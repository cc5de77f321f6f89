import { performance } from 'node:perf_hooks'
import { median } from '@sparse-attention/compare'
import { type ConfiguredMethod, countPairs, type HostPlan, type Runtime, recall } from '@sparse-attention/core'
import type { LanguageModel, LanguageModelConfig } from '@sparse-attention/models'
import { type AttentionEvent, AttentionModel, type Ort } from '@sparse-attention/onnxruntime'
import { ExactLse } from './exact-lse.js'
import type { Passage } from './passage.js'
import { prefill } from './prefill.js'

/** One attention of the model in one prefill. */
export interface LayerMeasurement {
  readonly layer: number
  /** What ran. */
  readonly path: 'sparse' | 'dense'
  /** Kept query–key pairs ÷ visible ones, over the heads. */
  readonly density: number
  /** Softmax mass that the plan keeps, against exact attention on the same q, k and v. */
  readonly recall: number
  /** Planning and attention, the GPU idle before and after. */
  readonly attentionMs: number
  readonly plan: HostPlan
}

export interface Measurement {
  readonly layers: readonly LayerMeasurement[]
  /** The whole model over the whole passage. */
  readonly prefillMs: number
  /** f32 [logitsToKeep, vocabulary] */
  readonly logits: Float32Array
}

export interface MeasureOptions {
  readonly runtime: Runtime
  readonly ort: Ort
  readonly language: LanguageModel
  readonly passage: Passage
  readonly method: ConfiguredMethod
  /** Prefills timed without looking inside. 0: the one that is looked into is timed, less the time of looking. */
  readonly timedRuns: number
  readonly signal: AbortSignal
  /** After each of `measureSteps`. */
  readonly onStep: (label: string) => void
}

/** Steps of `measure`, for a progress bar. */
export function measureSteps(config: LanguageModelConfig, timedRuns: number): number {
  return 2 + (timedRuns > 0 ? timedRuns + 1 : 0) + config.layers
}

/**
 * Tokens of the first run, in which drivers finish compiling, where a whole prefill takes long. Elsewhere it is whole:
 * onnxruntime-web compiles again for another length.
 */
const warmUpTokens = 64

/**
 * Prefills the passage with one method in place of the model's attention. Everything is loaded and compiled, and has run
 * once, before anything is timed.
 */
export async function measure(options: MeasureOptions): Promise<Measurement> {
  const { runtime, ort, language, passage, method, timedRuns, signal, onStep } = options
  const { id } = method.method
  const model = await AttentionModel.load(runtime, ort, language.model, { attention: () => method, signal })
  try {
    onStep(`${id}: load`)
    const run = (onAttention?: (event: AttentionEvent) => Promise<void>) =>
      prefill(model, ort, language.config, passage.ids, passage.logitsToKeep, {
        signal,
        ...(onAttention ? { onAttention } : {}),
      })
    if (timedRuns > 0) await run()
    else await prefill(model, ort, language.config, passage.ids.subarray(0, warmUpTokens), 1, { signal })
    onStep(`${id}: warm-up`)
    const times: number[] = []
    for (let i = 0; i < timedRuns; i++) {
      times.push((await run()).milliseconds)
      onStep(`${id}: prefill ${i + 1}`)
    }
    // In a run of its own: looking at plans in between lets a GPU's clock drop, which slows what comes after.
    const attentionMs = new Map<number, number>()
    if (timedRuns > 0) {
      await run(async (event) => void attentionMs.set(event.node.layer, event.attentionMs))
      onStep(`${id}: time attention`)
    }

    using probe = new Probe(runtime, (layer) => onStep(`${id}: layer ${layer}`))
    const looked = await run((event) => probe.look(event))
    const prefillMs = timedRuns > 0 ? median(times) : looked.milliseconds - probe.milliseconds
    const layers = probe.layers.map((layer) => ({
      ...layer,
      attentionMs: attentionMs.get(layer.layer) ?? layer.attentionMs,
    }))
    return { layers, prefillMs, logits: looked.logits }
  } finally {
    await model.dispose()
  }
}

/** Looks at the attentions of one prefill, and knows how long that took. */
class Probe implements Disposable {
  readonly layers: LayerMeasurement[] = []
  milliseconds = 0
  readonly #exact: ExactLse

  constructor(
    private readonly runtime: Runtime,
    private readonly onLayer: (layer: number) => void,
  ) {
    this.#exact = new ExactLse(runtime)
  }

  async look(event: AttentionEvent): Promise<void> {
    const { node, lse, plan, attentionMs } = event
    const start = performance.now()
    const hostPlan = await plan.read()
    const { kept, visible } = countPairs(hostPlan)
    this.layers.push({
      layer: node.layer,
      path: plan.path,
      density: kept / visible,
      // A dense path is the exact answer itself.
      recall: plan.path === 'dense' ? 1 : recall(await this.runtime.read(lse), await this.#exact.of(event)),
      attentionMs,
      plan: hostPlan,
    })
    this.onLayer(node.layer)
    this.milliseconds += performance.now() - start
  }

  [Symbol.dispose](): void {
    this.#exact[Symbol.dispose]()
  }
}
