import { performance } from 'node:perf_hooks'
import type { ConfiguredMethod, DType, Runtime } from '@sparse-attention/core'
import { stepCache, timestepEmbedding } from '@sparse-attention/diffusion'
import { dense } from '@sparse-attention/kernels'
import {
  type SceneCode,
  type Video,
  type VideoGrid,
  type VideoModel,
  videoOf,
  videoSampling,
} from '@sparse-attention/models'
import {
  type AttentionEvent,
  AttentionModel,
  type ModelDescription,
  type Ort,
  type Provider,
  type SamplePass,
} from '@sparse-attention/onnxruntime'

/** What a video is made of. The same of everything gives the same video, bit by bit. */
export interface VideoRequest {
  readonly method: ConfiguredMethod
  readonly grid: VideoGrid
  readonly scene: SceneCode
  readonly steps: number
  readonly guidance: number
  readonly seed: number
  /** Up to which accumulated change of the timestep's embedding evaluations of the model are reused. Absent: never. */
  readonly stepCache?: number
}

export interface MakeVideoOptions {
  readonly signal: AbortSignal
  /** Looks at each attention: times it, the GPU idle before and after, and reads the density of its plan. */
  readonly looks: boolean
  /** false: passes are not recorded. Default true: they are where that is possible and nobody looks. */
  readonly capture?: boolean
  /** After each step. */
  readonly onStep?: (step: number) => void
}

/** One denoising step, all layers and both passes of guidance. */
export interface VideoStep {
  /** Query–key pairs computed ÷ all of the step. */
  readonly density: number
  /** Planning and attention. */
  readonly attentionMs: number
}

export interface MadeVideo {
  readonly video: Video
  /** Of the whole video, the time of looking taken off. */
  readonly totalMs: number
  /** Empty where nobody looked. */
  readonly steps: readonly VideoStep[]
  /** How often the model ran. */
  readonly evaluations: number
  /** Where the time of each went. */
  readonly passes: readonly SamplePass[]
  /** Latents after each step, f32 [tokens, 24]. */
  readonly latents: readonly Float32Array[]
}

/** The video model, loaded once for all methods. */
export class VideoMaker implements AsyncDisposable {
  private constructor(
    private readonly ort: Ort,
    private readonly source: VideoModel,
    private readonly model: AttentionModel,
  ) {}

  /** @param dtype in which attention computes; everything else is f32 */
  static async load(
    runtime: Runtime,
    ort: Ort,
    source: VideoModel,
    { dtype, signal, provider = 'auto' }: { dtype: DType; signal: AbortSignal; provider?: Provider | 'auto' },
  ): Promise<VideoMaker> {
    const model = await AttentionModel.load(runtime, ort, source.model, {
      attention: () => exact,
      attentionDtype: dtype,
      provider,
      captureSampling: true,
      // Weights are made float32 once, not in every pass.
      sessionOptions: { extra: { session: { disable_quant_qdq: '1' } } },
      signal,
    })
    return new VideoMaker(ort, source, model)
  }

  /** Whether passes are recorded, and why: known after the first video. */
  get captured(): ModelDescription['capturedSampling'] {
    return this.model.describe().capturedSampling
  }

  async make(request: VideoRequest, { signal, looks, capture = true, onStep }: MakeVideoOptions): Promise<MadeVideo> {
    const { method, grid, scene, steps, guidance, seed, stepCache: threshold } = request
    const { Tensor: OrtTensor } = this.ort
    const asked = { scene, grid, steps, guidance }
    const latents: Float32Array[] = []
    const passes: SamplePass[] = []
    const look = new Look(steps)
    const cache = threshold === undefined ? undefined : stepCache({ threshold })
    const start = performance.now()
    const last = await this.model.sample({
      ...videoSampling(this.source.config, asked, (type, data, dims) => new OrtTensor(type, data, dims)),
      seed,
      attention: method,
      capture,
      signal,
      onPass: (pass) => passes.push(pass),
      onStep: (done) => {
        latents.push(done.latents)
        onStep?.(done.step)
      },
      ...(cache && {
        onEvaluation: async ({ step, steps, branch, time }, evaluate) => {
          const call = { step, steps, branch, signal: timestepEmbedding(1000 * time, 256) }
          return (await cache.run(call, evaluate)).output
        },
      }),
      ...(looks && { onAttention: (event) => look.at(event) }),
    })
    const totalMs = performance.now() - start - look.milliseconds
    const evaluations = cache?.counts.evaluated ?? (guidance === 1 ? steps : 2 * steps)
    return { video: videoOf(last, grid), totalMs, evaluations, passes, latents, steps: looks ? look.steps() : [] }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.model.dispose()
  }
}

/** One object, so that it is compiled once. */
const exact: ConfiguredMethod = dense()

/** Adds up what attentions do, step by step, and knows how long that took. */
class Look {
  readonly #steps: { kept: number; visible: number; attentionMs: number }[]
  milliseconds = 0

  constructor(steps: number) {
    this.#steps = Array.from({ length: steps }, () => ({ kept: 0, visible: 0, attentionMs: 0 }))
  }

  async at({ plan, context, attentionMs }: AttentionEvent): Promise<void> {
    const start = performance.now()
    const { keptPairs, visiblePairs } = await plan.stats()
    const step = this.#steps[context.step!]!
    step.kept += keptPairs
    step.visible += visiblePairs
    step.attentionMs += attentionMs
    this.milliseconds += performance.now() - start
  }

  steps(): VideoStep[] {
    // A step that is reused, whole or in one branch, computes nothing of what there is to see.
    const visible = Math.max(...this.#steps.map((step) => step.visible))
    return this.#steps.map(({ kept, attentionMs }) => ({ density: kept / visible, attentionMs }))
  }
}
