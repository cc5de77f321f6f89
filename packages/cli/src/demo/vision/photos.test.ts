import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { loadImageClassifier, packageFolder } from '@sparse-attention/models/node'
import { loadOrt } from '@sparse-attention/onnxruntime/node'
import { testRuntime } from '@sparse-attention/testing'
import type * as OnnxRuntime from 'onnxruntime-web'
import { expect, test, vi } from 'vitest'
import { expectPhotosClassified, type Photo } from '../../../test/photos.js'
import { decodePictureFile } from './decode.js'

vi.setConfig({ testTimeout: 300_000 })

const file = (name: string) => join(packageFolder(), 'photos', name)

test('kestrel-3m, its attention routed here, gives PyTorch’s classes and logits for photos that sharp decodes', async () => {
  const photos = JSON.parse(await readFile(file('logits.json'), 'utf8')) as Photo[]
  expect(photos).toHaveLength(5)
  const ort = (await loadOrt(await testRuntime(), { provider: 'wasm', threads: 1 })) as typeof OnnxRuntime
  const classifier = await loadImageClassifier()
  const tolerance = 1e-3 // the pixels are Pillow's, both by libjpeg-turbo; f32 sums in another order
  await expectPhotosClassified(ort, classifier, photos, (photo) => decodePictureFile(file(photo)), tolerance)
})
