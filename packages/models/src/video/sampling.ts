import type { VideoModelConfig } from './config.js'
import { nullScene, type SceneCode } from './scene.js'
import { patchSize, type VideoGrid, videoTokens } from './video.js'
import { rotaryTables, samplingShift } from './video-model.js'

/** What a video is asked for by. */
export interface VideoRequest {
  readonly scene: SceneCode
  readonly grid: VideoGrid
  /** Default: the model's own; guidance likewise. */
  readonly steps?: number
  readonly guidance?: number
}

/** Makes the tensor of a feed: `(type, data, dims) => new ort.Tensor(type, data, dims)`. */
export type MakeFeed<Feed> = (
  type: 'float32' | 'int64',
  data: Float32Array<ArrayBuffer> | BigInt64Array<ArrayBuffer>,
  dims: readonly number[],
) => Feed

/** What `AttentionModel.sample` of `@sparse-attention/onnxruntime` has to know of a video model and of what it is asked for. */
export interface VideoSampling<Feed> {
  readonly shape: readonly [batch: 1, tokens: number, patch: number]
  readonly inputs: { readonly latents: 'latents'; readonly time: 'timestep' }
  readonly output: 'velocity'
  readonly condition: Readonly<Record<string, Feed>>
  readonly nullCondition: Readonly<Record<string, Feed>>
  readonly grid: VideoGrid
  readonly steps: number
  readonly guidance: number
  readonly shift: number
}

/** Options of `AttentionModel.sample` for one video, less its seed, the attention and who listens. */
export function videoSampling<Feed>(
  config: Pick<VideoModelConfig, 'rope' | 'sampling'>,
  { scene, grid, steps = config.sampling.steps, guidance = config.sampling.guidance }: VideoRequest,
  makeFeed: MakeFeed<Feed>,
): VideoSampling<Feed> {
  const tokens = videoTokens(grid)
  const { cos, sin, angles } = rotaryTables(config, grid)
  const places = {
    rope_cos: makeFeed('float32', cos, [tokens, angles]),
    rope_sin: makeFeed('float32', sin, [tokens, angles]),
  }
  const asking = (code: SceneCode) => ({
    ...places,
    code: makeFeed('int64', BigInt64Array.from(code, BigInt), [1, code.length]),
  })
  return {
    shape: [1, tokens, patchSize],
    inputs: { latents: 'latents', time: 'timestep' },
    output: 'velocity',
    condition: asking(scene),
    nullCondition: asking(nullScene),
    grid,
    steps,
    guidance,
    shift: samplingShift(config, grid),
  }
}
