import { type ConfiguredMethod, countPairs, type Runtime } from '@sparse-attention/core'
import { dense, equalRegions, regionCounts } from '@sparse-attention/kernels'
import {
  type ClassifierStage,
  type ImageClassifier,
  type LikelyClass,
  likeliestClasses,
  type Picture,
  preprocess,
  type Rectangle,
  seenPart,
  stageOfLayer,
} from '@sparse-attention/models'
import { type AttentionEvent, AttentionModel, type Ort } from '@sparse-attention/onnxruntime'
import { bilevelRouting, regionAffinity, regionMass, regionRoutes } from '@sparse-attention/vision'

/** How attention is routed: what can be chosen without training the model again. */
export interface RoutingSettings {
  /** For each stage the regions that each region attends to; all of a stage's regions, or more, is dense. */
  readonly topK: readonly number[]
  /** One routing for all heads, as trained, or one for each. */
  readonly routing: 'shared' | 'per-head'
}

/** What one attention of the routed model did, region by region. */
export interface LayerLook {
  readonly layer: number
  readonly stage: number
  /** Tokens: [height, width]. */
  readonly grid: readonly [height: number, width: number]
  /** Regions of the grid, from top to bottom and from left to right. */
  readonly down: number
  readonly across: number
  readonly heads: number
  /** Undefined: it ran dense, and every region attends to all. */
  readonly routes: LayerRoutes | undefined
  /** f64[heads, R, R]: softmax weight that exact attention gives a region's keys, mean over the queries of the one that asks. */
  readonly mass: Float64Array
  /** f64[1 or heads, R, R]: what regions are routed by. */
  readonly affinity: Float64Array
  /** Kept query–key pairs ÷ all. */
  readonly density: number
  /** Planning and attention, the GPU idle before and after. */
  readonly attentionMs: number
}

export interface LayerRoutes {
  /** 1 where all heads share their routes. */
  readonly heads: number
  readonly topK: number
  /** i32[heads, R, topK], ascending; −1 behind the last one of a row that has fewer. */
  readonly indices: Int32Array
}

/** What the model says with one kind of attention. */
export interface Answer {
  /** One for each class. */
  readonly logits: Float32Array
  /** The likeliest, first first. */
  readonly classes: readonly LikelyClass[]
  /** The whole model, logits on the CPU at the end. */
  readonly modelMs: number
  /** Planning and attention, summed over layers. */
  readonly attentionMs: number
}

export interface Classified {
  readonly width: number
  readonly height: number
  /** The part of the picture that the model saw, in its pixels. */
  readonly seen: Rectangle
  readonly routed: Answer
  /** Undefined where it was not asked for. */
  readonly dense: Answer | undefined
  readonly layers: readonly LayerLook[]
  /** Runs whose median the times are; 1: a run that was also looked into, less the time of looking. */
  readonly timedRuns: number
}

export interface ClassifyOptions {
  /** Whether to run with dense attention too. */
  readonly compare: boolean
  /** Layers to look into. Default: all. */
  readonly layers?: readonly number[]
  /** Regions whose mass is wanted; that of others is 0. Default: all. */
  readonly asking?: readonly number[]
  /** Runs to time besides the one that is looked into. 0: that one. */
  readonly timedRuns: number
  readonly signal: AbortSignal
  /** Attentions and timed runs done, and all of them. */
  readonly onStep: (done: number, total: number) => void
}

/** One object, so that it is compiled once. */
const exact: ConfiguredMethod = dense()

/** As the checkpoint was trained. */
export function trainedRouting({ config: { stages } }: Pick<ImageClassifier, 'config'>): RoutingSettings {
  return { topK: stages.map(({ routing, grid }) => routing?.topK ?? grid[0] * grid[1]), routing: 'shared' }
}

/** The classifier with its attention routed as the settings say; the same model answers with dense attention too. */
export class PhotoClassifier implements AsyncDisposable {
  readonly #layerCount: number

  private constructor(
    private readonly runtime: Runtime,
    private readonly ort: Ort,
    private readonly classifier: ImageClassifier,
    private readonly model: AttentionModel,
    private readonly settings: RoutingSettings,
  ) {
    this.#layerCount = classifier.config.stages.reduce((sum, { blocks }) => sum + blocks, 0)
  }

  static async load(
    runtime: Runtime,
    ort: Ort,
    classifier: ImageClassifier,
    settings: RoutingSettings,
    options: { readonly signal: AbortSignal; readonly onStep: (done: number, total: number) => void },
  ): Promise<PhotoClassifier> {
    const { stages } = classifier.config
    const methods = new Map(
      stages.map((stage, i) => [
        stage,
        stage.routing
          ? bilevelRouting({ ...stage.routing, topK: settings.topK[i]!, routing: settings.routing })
          : exact,
      ]),
    )
    const model = await AttentionModel.load(runtime, ort, classifier.model, {
      attention: ({ layer }) => methods.get(stageOfLayer(classifier.config, layer))!,
      signal: options.signal,
      onProgress: ({ done, total }) => options.onStep(done, total),
    })
    return new PhotoClassifier(runtime, ort, classifier, model, settings)
  }

  /** @throws INVALID_SHAPE, and what the model throws; an aborted signal rejects with its reason */
  async classify(picture: Picture, options: ClassifyOptions): Promise<Classified> {
    const { compare, timedRuns } = options
    const { config } = this.classifier
    const pixels = preprocess(picture, config)
    const total = (compare ? 2 : 1) * (this.#layerCount + timedRuns)
    let done = 0
    const step = () => options.onStep(++done, total)

    const answer = async (method: ConfiguredMethod | undefined, look?: (event: AttentionEvent) => Promise<void>) => {
      let attentionMs = 0
      let lookingMs = 0
      const looked = await this.#run(pixels, method, options.signal, async (event) => {
        attentionMs += event.attentionMs
        const start = performance.now()
        await look?.(event)
        lookingMs += performance.now() - start
        step()
      })
      const times: number[] = []
      for (let i = 0; i < timedRuns; i++) {
        times.push((await this.#run(pixels, method, options.signal)).milliseconds)
        step()
      }
      times.sort((a, b) => a - b)
      const { logits } = looked
      return {
        ...{ logits, classes: likeliestClasses(config, logits), attentionMs },
        modelMs: times[times.length >> 1] ?? looked.milliseconds - lookingMs,
      }
    }

    const exactly = compare ? await answer(exact) : undefined
    const layers: LayerLook[] = []
    const routed = await answer(undefined, async (event) => {
      if (options.layers?.includes(event.node.layer) ?? true) layers.push(await this.#look(event, options.asking))
    })
    const { width, height } = picture
    return {
      ...{ width, height, seen: seenPart(picture, config), routed, dense: exactly, layers },
      timedRuns: Math.max(1, timedRuns),
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.model.dispose()
  }

  async #run(
    pixels: Float32Array<ArrayBuffer>,
    method: ConfiguredMethod | undefined,
    signal: AbortSignal,
    onAttention?: (event: AttentionEvent) => Promise<void>,
  ): Promise<{ logits: Float32Array; milliseconds: number }> {
    const { config } = this.classifier
    const shape = [1, 3, config.imageSize, config.imageSize]
    const start = performance.now()
    const { logits } = await this.model.run(
      { pixel_values: new this.ort.Tensor('float32', pixels, shape) },
      {
        context: ({ layer }) => ({ grid: stageOfLayer(config, layer).grid }),
        ...(method && { attention: method }),
        ...(onAttention && { onAttention }),
        signal,
      },
    )
    const values = (await logits!.getData()) as Float32Array
    // A copy: what leaves the worker may be transferred.
    return { logits: Float32Array.from(values), milliseconds: performance.now() - start }
  }

  async #look({ node, plan, q, k, attentionMs }: AttentionEvent, asking?: readonly number[]): Promise<LayerLook> {
    const { stages } = this.classifier.config
    const stage: ClassifierStage = stageOfLayer(this.classifier.config, node.layer)
    const regions = equalRegions(stage.grid, lookedSide(stage, stages))
    const { down, across } = regionCounts(regions)
    const hostPlan = await plan.read()
    const routed = plan.path === 'sparse' ? regionRoutes(hostPlan) : undefined
    const { kept, visible } = countPairs(hostPlan)
    const { queryHeads: heads } = node
    // A head at a time: as a batch of sequences with one head each.
    const apart = { batch: heads, queryHeads: 1, kvHeads: 1, headDim: q.shape[3]! }
    const together = { ...apart, batch: 1, queryHeads: heads, kvHeads: heads }
    const values = { q: await this.runtime.read(q), k: await this.runtime.read(k) }
    const headsTogether = this.settings.routing === 'shared' ? heads : 1
    return {
      ...{ layer: node.layer, stage: stages.indexOf(stage), grid: stage.grid, down, across, heads, attentionMs },
      routes: routed && { heads: routed.heads, topK: routed.topK, indices: routed.routes },
      mass: regionMass({ ...apart, ...values }, regions, node.scale, asking),
      affinity: regionAffinity({ ...together, ...values }, regions, headsTogether),
      density: kept / visible,
    }
  }
}

/** Regions a side: those that the stage routes by; for one that does not, those of the others, so that one picture shows all. */
function lookedSide({ routing, grid }: ClassifierStage, stages: readonly ClassifierStage[]): number {
  const side = routing?.regions ?? stages.find((stage) => stage.routing)?.routing?.regions ?? Math.min(...grid)
  return Math.min(side, ...grid)
}
