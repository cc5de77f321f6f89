import { performance } from 'node:perf_hooks'
import { median } from '@sparse-attention/compare'
import {
  type ConfiguredMethod,
  countPairs,
  type MethodFactory,
  type OptionValue,
  type Runtime,
  recall,
} from '@sparse-attention/core'
import { dense, equalRegions } from '@sparse-attention/kernels'
import { type ClassifierStage, type ImageClassifier, stageOfLayer } from '@sparse-attention/models'
import { type AttentionEvent, AttentionModel, type Ort } from '@sparse-attention/onnxruntime'
import { keptByRegion, type MassCoverage, massCoverage, regionAffinity, regionMass } from '@sparse-attention/vision'
import { ExactLse } from '../exact-lse.js'

/** One attention of the model in one run. */
export interface ClassifiedLayer {
  readonly layer: number
  readonly stage: ClassifierStage
  readonly method: string
  readonly options: Readonly<Record<string, OptionValue>>
  /** What ran. */
  readonly path: 'sparse' | 'dense'
  /** Kept query–key pairs ÷ all, over the heads. */
  readonly density: number
  /** Softmax mass that the plan keeps, against exact attention on the same q and k. */
  readonly recall: number
  /** Planning and attention, the GPU idle before and after. */
  readonly attentionMs: number
  /** [R, R]: share of the pairs of two regions that is computed. */
  readonly kept: Float64Array
  /** [R, R]: share of a region's mass that another gets from exact attention. */
  readonly mass: Float64Array
  readonly coverage: MassCoverage
}

export interface Classification {
  /** One for each class. */
  readonly logits: Float32Array
  /** The whole model, logits on the CPU at the end. */
  readonly modelMs: number
  readonly attentionMs: number
  readonly layers: readonly ClassifiedLayer[]
}

export interface ClassifyOptions {
  readonly runtime: Runtime
  readonly ort: Ort
  readonly classifier: ImageClassifier
  /** f32 [3, imageSize, imageSize] */
  readonly pixels: Float32Array<ArrayBuffer>
  /** What takes the place of routed attention. */
  readonly method: (stage: ClassifierStage) => ConfiguredMethod
  /** Regions a side by which attention is looked at. */
  readonly side: number
  /** Runs whose median is `modelMs`. 0: the one that is looked into, less the time of looking. */
  readonly timedRuns: number
  readonly signal: AbortSignal
  /** After each of `classifySteps`. */
  readonly onStep: (label: string) => void
}

/** Steps of `classify`, for a progress bar. */
export function classifySteps(timedRuns: number): number {
  return 2 * (timedRuns > 0 ? timedRuns + 2 : 1) + 1
}

/** One object, so that it is compiled once. */
const exact: ConfiguredMethod = dense()

/** The method with its budgets: for bi-level routing those that the stage was trained with, else for its length. */
export function methodFor(
  factory: MethodFactory,
  { routing, grid: [height, width] }: ClassifierStage,
  given: Readonly<Record<string, OptionValue>>,
): ConfiguredMethod {
  if (!routing) return exact
  const trained = factory.definition.id === 'bilevel-routing' ? { ...routing } : {}
  return factory({ ...factory.definition.scaled(height * width), ...trained, ...given })
}

/** Classifies the picture with dense attention, then with the method, in one loaded model. */
export async function classify(
  options: ClassifyOptions,
): Promise<readonly [dense: Classification, ours: Classification]> {
  const { runtime, ort, classifier, signal, onStep } = options
  const methods = new Map(classifier.config.stages.map((stage) => [stage, options.method(stage)]))
  const model = await AttentionModel.load(runtime, ort, classifier.model, {
    attention: ({ layer }) => methods.get(stageOfLayer(classifier.config, layer))!,
    signal,
  })
  try {
    onStep('load')
    using run = new Run(model, options)
    return [await run.measure(exact), await run.measure(undefined)]
  } finally {
    await model.dispose()
  }
}

class Run implements Disposable {
  readonly #exactLse: ExactLse

  constructor(
    private readonly model: AttentionModel,
    private readonly options: ClassifyOptions,
  ) {
    this.#exactLse = new ExactLse(options.runtime)
  }

  /** @param method in place of those that the model was loaded with */
  async measure(method: ConfiguredMethod | undefined): Promise<Classification> {
    const { timedRuns, onStep } = this.options
    const label = method ? 'dense' : 'sparse'
    // First, so that it warms up what is timed: looking in between lets a GPU's clock drop.
    const layers: ClassifiedLayer[] = []
    let lookingMs = 0
    const looked = await this.#once(method, async (event) => {
      const start = performance.now()
      layers.push(await this.#look(event, method))
      lookingMs += performance.now() - start
    })
    onStep(`${label}: look at attention`)
    const times: number[] = []
    for (let i = 0; i < timedRuns; i++) {
      times.push((await this.#once(method)).milliseconds)
      onStep(`${label}: run ${i + 1}`)
    }
    const attentionMs = layers.map((layer) => layer.attentionMs)
    if (timedRuns > 0) {
      await this.#once(method, async ({ node, attentionMs: time }) => {
        attentionMs[node.layer] = time
      })
      onStep(`${label}: time attention`)
    }
    return {
      logits: looked.logits,
      modelMs: timedRuns > 0 ? median(times) : looked.milliseconds - lookingMs,
      attentionMs: attentionMs.reduce((sum, each) => sum + each, 0),
      layers: layers.map((layer, i) => ({ ...layer, attentionMs: attentionMs[i]! })),
    }
  }

  async #once(method: ConfiguredMethod | undefined, onAttention?: (event: AttentionEvent) => Promise<void>) {
    const { classifier, ort, pixels, signal } = this.options
    const { imageSize } = classifier.config
    const feeds = { pixel_values: new ort.Tensor('float32', pixels, [1, 3, imageSize, imageSize]) }
    const start = performance.now()
    const { logits } = await this.model.run(feeds, {
      context: ({ layer }) => ({ grid: stageOfLayer(classifier.config, layer).grid }),
      ...(method && { attention: method }),
      ...(onAttention && { onAttention }),
      signal,
    })
    return { logits: (await logits!.getData()) as Float32Array, milliseconds: performance.now() - start }
  }

  async #look(event: AttentionEvent, given: ConfiguredMethod | undefined): Promise<ClassifiedLayer> {
    const { runtime, classifier, side } = this.options
    const { node, plan } = event
    const stage = stageOfLayer(classifier.config, node.layer)
    const regions = equalRegions(stage.grid, Math.min(side, ...stage.grid))
    const [q, k] = await Promise.all([runtime.read(event.q), runtime.read(event.k)])
    const { queryHeads, kvHeads, scale } = node
    const scored = { batch: 1, queryHeads, kvHeads, headDim: event.q.shape[3]!, q, k }
    const mass = regionMass(scored, regions, scale)
    const hostPlan = await plan.read()
    const { kept, visible } = countPairs(hostPlan)
    return {
      layer: node.layer,
      stage,
      method: event.method,
      options: (given ?? this.options.method(stage)).options,
      path: plan.path,
      density: kept / visible,
      recall: plan.path === 'dense' ? 1 : recall(await runtime.read(event.lse), await this.#exactLse.of(event)),
      attentionMs: event.attentionMs,
      kept: keptByRegion(hostPlan, regions),
      mass,
      coverage: massCoverage(mass, regionAffinity(scored, regions)),
    }
  }

  [Symbol.dispose](): void {
    this.#exactLse[Symbol.dispose]()
  }
}
