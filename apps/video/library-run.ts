import { createRuntime } from '@sparse-attention/core/node'
import { liteAttention } from '@sparse-attention/diffusion'
import { dense } from '@sparse-attention/kernels'
import {
  loadVideoModel,
  type SceneCode,
  type Video,
  videoGrid,
  videoOf,
  videoSampling,
  videoTokens,
} from '@sparse-attention/models/node'
import { AttentionModel } from '@sparse-attention/onnxruntime'
import { loadOrt } from '@sparse-attention/onnxruntime/node'

export interface LibraryRequest {
  readonly scene: SceneCode
  readonly steps: number
  readonly guidance: number
  readonly seed: number
  /** Of LiteAttention. */
  readonly threshold: number
}

/** A video in 8 bits a colour, as it is shown. */
export interface RecordedVideo extends Omit<Video, 'pixels'> {
  /** [frames, height, width, 3], base64 */
  readonly pixels: string
}

/** What the packages make, without anything of the app; recorded in `library-run.json`. */
export interface LibraryRun {
  readonly dense: RecordedVideo
  readonly sparse: RecordedVideo
  /** Kept ÷ all query–key pairs of each step of the sparse video, as plans count them. */
  readonly densities: readonly number[]
}

/** For tests, in Node: the smallest videos of drifters-7m, with the packages used as their documentation says. */
export async function libraryRun({ scene, steps, guidance, seed, threshold }: LibraryRequest): Promise<LibraryRun> {
  const { model: bytes, config } = await loadVideoModel()
  using runtime = await createRuntime({ onNotice: () => {}, adapter: 'software' })
  const ort = await loadOrt(runtime, { provider: 'wasm' })
  const exact = dense()
  await using model = await AttentionModel.load(runtime, ort, bytes, {
    attention: () => exact,
    provider: 'wasm',
    sessionOptions: { extra: { session: { disable_quant_qdq: '1' } } },
  })
  const grid = videoGrid('tiny', config)
  const lite = liteAttention({ ...liteAttention.definition.scaled(videoTokens(grid)), threshold })
  const pairs = Array.from({ length: steps }, () => ({ kept: 0, visible: 0 }))
  const asked = videoSampling(
    config,
    { scene, grid, steps, guidance },
    (type, data, dims) => new ort.Tensor(type, data, dims),
  )
  const latents = {
    dense: await model.sample({ ...asked, seed }),
    sparse: await model.sample({
      ...asked,
      seed,
      attention: lite,
      onAttention: async ({ plan, context }) => {
        const { keptPairs, visiblePairs } = await plan.stats()
        pairs[context.step!]!.kept += keptPairs
        pairs[context.step!]!.visible += visiblePairs
      },
    }),
  }
  return {
    dense: recordOf(videoOf(latents.dense, grid)),
    sparse: recordOf(videoOf(latents.sparse, grid)),
    densities: pairs.map(({ kept, visible }) => kept / visible),
  }
}

function recordOf({ pixels, ...size }: Video): RecordedVideo {
  return { ...size, pixels: Buffer.from(Uint8Array.from(pixels, (x) => Math.round(255 * x))).toString('base64') }
}
