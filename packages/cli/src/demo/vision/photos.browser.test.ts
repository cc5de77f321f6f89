import { decodePicture, loadImageClassifier } from '@sparse-attention/models'
import wasm from 'onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url'
import * as ort from 'onnxruntime-web/webgpu'
import { expect, test, vi } from 'vitest'
import modelUrl from '../../../../models/checkpoints/kestrel-3m/model.onnx?url'
import { expectPhotosClassified, type Photo } from '../../../test/photos.js'

vi.setConfig({ testTimeout: 300_000 })

// The models package as it is served.
const models = new URL('../../', new URL(modelUrl, location.href))
const fetched = (path: string) => fetch(new URL(path, models))

test('kestrel-3m, its attention routed here, gives PyTorch’s classes and logits for photos that the browser decodes', async () => {
  ort.env.wasm.wasmPaths = { wasm }
  ort.env.wasm.numThreads = 1
  const photos = (await (await fetched('photos/logits.json')).json()) as Photo[]
  expect(photos).toHaveLength(5)
  const classifier = await loadImageClassifier({ from: new URL('checkpoints/kestrel-3m', models) })
  const decode = async (photo: string) => decodePicture(await (await fetched(`photos/${photo}`)).blob())
  const tolerance = 0.049 // decoders differ by a level of 255 here and there, and a region may be routed by less than that
  await expectPhotosClassified(ort, classifier, photos, decode, tolerance)
})
