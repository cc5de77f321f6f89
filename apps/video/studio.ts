import type { ConfiguredMethod, DType, MethodFactory, OptionSpec, OptionValue, Runtime } from '@sparse-attention/core'
import { methods as diffusionMethods, stepCache, timestepEmbedding } from '@sparse-attention/diffusion'
import { dense } from '@sparse-attention/kernels'
import {
  psnr,
  type SceneCode,
  ssim,
  type Video,
  type VideoGrid,
  type VideoModel,
  type VideoSampling,
  type VideoSize,
  videoGrid,
  videoOf,
  videoSampling,
  videoSizes,
  videoTokens,
} from '@sparse-attention/models'
import { AttentionModel, gaussianNoise, type Ort } from '@sparse-attention/onnxruntime'
import type { Tensor } from 'onnxruntime-web'
import { cleanEstimate, type FlowPoint } from './clean-estimate.js'
import { asShown, type Frames, framesOf } from './frames.js'
import { Look, type StepLook } from './look.js'
import { Turns } from './turns.js'

/** A method, for forms: what can be chosen, and what is good for each size. */
export interface MethodInfo {
  readonly id: string
  readonly title: string
  readonly summary: string
  readonly options: Readonly<Record<string, OptionSpec>>
  readonly scaled: Readonly<Record<VideoSize, Readonly<Record<string, OptionValue>>>>
}

/** What there is to choose from. */
export interface StudioInfo {
  readonly sizes: readonly { readonly size: VideoSize; readonly grid: VideoGrid; readonly tokens: number }[]
  readonly methods: readonly MethodInfo[]
  readonly layers: number
  readonly heads: number
  /** In which attention computes. */
  readonly dtype: DType
  /** What suits the adapter: a CPU does small ones. */
  readonly defaults: { readonly size: VideoSize; readonly steps: number; readonly guidance: number }
}

/** The same of everything gives the same videos, bit by bit. */
export interface MakeRequest {
  readonly scene: SceneCode
  readonly size: VideoSize
  readonly steps: number
  readonly guidance: number
  readonly seed: number
  readonly method: string
  /** Those that are not given are the defaults. */
  readonly options: Readonly<Record<string, OptionValue>>
  /** Up to which change of the timestep's embedding the sparse video reuses evaluations of the model. Absent: never. */
  readonly stepCache?: number
  /** Reads every plan, for maps and densities, and times attention: the video takes longer. */
  readonly looks: boolean
}

export type Pane = 'dense' | 'sparse'

/** What a step has come to. */
export interface PaneStep {
  readonly pane: Pane
  readonly step: number
  /** The step itself, without looking at it. */
  readonly ms: number
  /** How often the model ran, of the branches of guidance. */
  readonly evaluations: number
  /** The estimate of the clean video. */
  readonly frames: Frames
  /** Of the sparse estimate to the dense one of the same step, both as shown. */
  readonly psnr?: number
  readonly ssim?: number
  readonly look?: StepLook
}

export type MakeReport =
  | { readonly kind: 'preparing'; readonly method: string }
  | { readonly kind: 'step'; readonly made: PaneStep }

/** What the job needs from its surroundings. */
export interface MakeContext {
  readonly signal: AbortSignal
  report(report: MakeReport): void
  checkpoint(device: GPUDevice): void
}

/** 256 tokens in 4 steps are some seconds on a CPU; elsewhere size and steps are the model's own. */
const onSoftware = { size: 'tiny', steps: 4 } as const
/** Of the warm-up on a CPU, where a step is long and little of it compiling. */
const warmUpGrid: VideoGrid = [2, 4, 4]

/** What both runs share. */
interface Run {
  readonly request: MakeRequest
  readonly asked: VideoSampling<Tensor>
  readonly turns: Turns
  readonly signal: AbortSignal
}

/** One object, so that it is compiled once. */
const exact: ConfiguredMethod = dense()

/** The video model on a device, ready to make videos densely and sparsely, step by step. */
export class VideoStudio {
  readonly #configured = new Map<string, ConfiguredMethod>()
  readonly #warm = new Set<string>()

  private constructor(
    private readonly runtime: Runtime,
    private readonly ort: Ort,
    private readonly source: VideoModel,
    private readonly model: AttentionModel,
    private readonly dtype: DType,
  ) {}

  static async open(
    runtime: Runtime,
    ort: Ort,
    source: VideoModel,
    { signal, onProgress }: { signal: AbortSignal; onProgress: (done: number, total: number) => void },
  ): Promise<VideoStudio> {
    const dtype = runtime.tier === 'portable' ? 'f32' : 'f16'
    const model = await AttentionModel.load(runtime, ort, source.model, {
      attention: () => exact,
      attentionDtype: dtype,
      captureSampling: true,
      // Weights are made float32 once, not in every pass.
      sessionOptions: { extra: { session: { disable_quant_qdq: '1' } } },
      signal,
      onProgress: ({ done, total }) => onProgress(done, total),
    })
    return new VideoStudio(runtime, ort, source, model, dtype)
  }

  info(): StudioInfo {
    const { config } = this.source
    const { software } = this.runtime
    const sizes = videoSizes.map((size) => {
      const grid = videoGrid(size, config)
      return { size, grid, tokens: videoTokens(grid) }
    })
    return {
      sizes,
      methods: diffusionMethods.map(({ definition }) => ({
        id: definition.id,
        title: definition.title,
        summary: definition.summary,
        options: definition.options,
        scaled: Object.fromEntries(
          sizes.map(({ size, tokens }) => [size, definition.scaled(tokens)]),
        ) as MethodInfo['scaled'],
      })),
      layers: config.layers,
      heads: config.heads,
      dtype: this.dtype,
      defaults: {
        size: software ? onSoftware.size : 'full',
        steps: software ? onSoftware.steps : config.sampling.steps,
        guidance: config.sampling.guidance,
      },
    }
  }

  /**
   * Makes the video with exact attention and with a method from the same noise, a step of one and a step of the other in turns,
   * and reports each step.
   *
   * @throws INVALID_OPTION, and what `AttentionModel.sample` throws; the signal's reason
   */
  async make(request: MakeRequest, { signal, report, checkpoint }: MakeContext): Promise<void> {
    const sparse = this.#method(request)
    const stop = new AbortController()
    const either = AbortSignal.any([signal, stop.signal])
    const turns = new Turns(2, either)
    // The same tensors for both: recorded passes are fed them once.
    const asked = this.#sampling(request, videoGrid(request.size, this.source.config))
    /** The dense estimate of the step that the sparse one does next. */
    let latest: Video | undefined
    const run = async (pane: Pane, method: ConfiguredMethod) => {
      try {
        await turns.mine(pane === 'dense' ? 0 : 1)
        report({ kind: 'preparing', method: method.method.title })
        await this.#warmUp(method, request, either)
        await this.#run(pane, method, { request, asked, turns, signal: either }, (step, video) => {
          if (pane === 'dense') latest = video
          const quality = pane === 'sparse' && { psnr: psnr(video, latest!), ssim: ssim(video, latest!) }
          report({ kind: 'step', made: { ...step, ...quality } })
          if (pane === 'dense' && step.step === 0) checkpoint(this.runtime.device)
        })
      } catch (error) {
        stop.abort(error)
        throw error
      }
    }
    const outcomes = await Promise.allSettled([run('dense', exact), run('sparse', sparse)])
    signal.throwIfAborted()
    if (stop.signal.aborted) throw stop.signal.reason
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
  }

  async #run(
    pane: Pane,
    method: ConfiguredMethod,
    { request, asked, turns, signal }: Run,
    onStep: (step: PaneStep, video: Video) => void,
  ): Promise<void> {
    const { steps, seed, looks, stepCache: threshold } = request
    const index = pane === 'dense' ? 0 : 1
    const cache = pane === 'sparse' && threshold !== undefined ? stepCache({ threshold }) : undefined
    const look = new Look(pane === 'sparse')
    const branches = asked.guidance === 1 ? 1 : 2
    let evaluated = 0
    let before: FlowPoint = { time: 1, latents: gaussianNoise(seed, asked.shape[1] * asked.shape[2]) }
    let start = performance.now()
    await this.model.sample({
      ...asked,
      seed,
      attention: method,
      signal,
      ...(looks && { onAttention: (event) => look.at(event) }),
      ...(cache && {
        onEvaluation: async ({ step, steps, branch, time }, evaluate) => {
          const call = { step, steps, branch, signal: timestepEmbedding(1000 * time, 256) }
          return (await cache.run(call, evaluate)).output
        },
      }),
      onStep: async ({ step, time, latents }) => {
        const { lookingMs, attentionMs, layers } = look.take()
        const ms = performance.now() - start - lookingMs
        const after = { time, latents }
        const video = asShown(videoOf(cleanEstimate(before, after), asked.grid))
        before = after
        const evaluations = cache ? cache.counts.evaluated - evaluated : branches
        evaluated += evaluations
        const seen = looks && { look: { attentionMs, layers } }
        onStep({ pane, step, ms, evaluations, frames: framesOf(video), ...seen }, video)
        turns.pass()
        if (step + 1 < steps) await turns.mine(index)
        start = performance.now()
      },
    })
  }

  #sampling(
    { scene, steps, guidance }: Pick<MakeRequest, 'scene' | 'steps' | 'guidance'>,
    grid: VideoGrid,
  ): VideoSampling<Tensor> {
    const { Tensor: OrtTensor } = this.ort
    const asked = { scene, grid, steps, guidance }
    return videoSampling(this.source.config, asked, (type, data, dims) => new OrtTensor(type, data, dims))
  }

  /** The same object for the same options, so that each is compiled once. */
  #method({ method: id, options, size }: MakeRequest): ConfiguredMethod {
    const factory = diffusionMethods.find(({ definition }) => definition.id === id) as MethodFactory
    const scaled = factory.definition.scaled(videoTokens(videoGrid(size, this.source.config)))
    const configured = factory({ ...scaled, ...options })
    const key = JSON.stringify([id, configured.options])
    const known = this.#configured.get(key) ?? configured
    this.#configured.set(key, known)
    return known
  }

  /** Compiles what is missing, so that steps are timed without. */
  async #warmUp(method: ConfiguredMethod, request: MakeRequest, signal: AbortSignal): Promise<void> {
    const grid = this.runtime.software ? warmUpGrid : videoGrid(request.size, this.source.config)
    // What is looked at runs without recorded passes.
    const capture = !request.looks
    const key = JSON.stringify([method.method.id, method.options, grid, capture])
    if (this.#warm.has(key)) return
    await this.model.sample({
      ...this.#sampling({ ...request, steps: 1, guidance: 1 }, grid),
      attention: method,
      capture,
      signal,
    })
    this.#warm.add(key)
  }
}
