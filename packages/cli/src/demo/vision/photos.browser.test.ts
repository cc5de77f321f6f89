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
  await expectPhotosClassified(ort, classifier, photos, async (photo) =>
    decodePicture(await (await fetched(`photos/${photo}`)).blob()),
  )
})
