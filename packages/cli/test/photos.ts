import { dense } from '@sparse-attention/kernels'
import {
  type ImageClassifier,
  likeliestClasses,
  type Picture,
  preprocess,
  stageOfLayer,
} from '@sparse-attention/models'
import { AttentionModel } from '@sparse-attention/onnxruntime'
import { testRuntime } from '@sparse-attention/testing'
import { bilevelRouting } from '@sparse-attention/vision'
import type * as OnnxRuntime from 'onnxruntime-web'
import { expect } from 'vitest'

/** A test photo with PyTorch's logits: `photos/logits.json` of the models package. */
export interface Photo {
  readonly photo: string
  readonly class: string
  readonly routed: readonly number[]
  readonly dense: readonly number[]
}

/**
 * Classifies every photo with the model's own routing: classes and logits must be PyTorch's.
 *
 * @param decode a photo by its file name, at its own size
 * @param tolerance of a logit. Those of Node and browsers add up to 0.05, so that theirs differ by no more
 */
export async function expectPhotosClassified(
  ort: typeof OnnxRuntime,
  { model: bytes, config }: ImageClassifier,
  photos: readonly Photo[],
  decode: (photo: string) => Promise<Picture>,
  tolerance: number,
): Promise<void> {
  const runtime = await testRuntime()
  const routed = config.stages.map(({ routing }) => (routing ? bilevelRouting(routing) : dense()))
  await using model = await AttentionModel.load(runtime, ort, bytes, {
    provider: 'wasm',
    attention: ({ layer }) => routed[config.stages.indexOf(stageOfLayer(config, layer))]!,
  })
  for (const expected of photos) {
    const pixels = preprocess(await decode(expected.photo), config)
    const feeds = { pixel_values: new ort.Tensor('float32', pixels, [1, 3, config.imageSize, config.imageSize]) }
    const { logits } = await model.run(feeds, {
      context: ({ layer }) => ({ grid: stageOfLayer(config, layer).grid }),
    })
    const values = (await logits!.getData()) as Float32Array
    expect(likeliestClasses(config, values, 1)[0], expected.photo).toMatchObject({ name: expected.class })
    const error = values.reduce((most, logit, i) => Math.max(most, Math.abs(logit - expected.routed[i]!)), 0)
    expect(error, expected.photo).toBeLessThan(tolerance)
  }
}
