import { createRuntime, type Runtime } from '@sparse-attention/core'
import { type ImageClassifier, loadImageClassifier, pictureOf } from '@sparse-attention/models'
import configUrl from '@sparse-attention/models/checkpoints/kestrel-3m/config.json?url'
import modelUrl from '@sparse-attention/models/checkpoints/kestrel-3m/model.onnx?url'
import type { Ort } from '@sparse-attention/onnxruntime'
import { bundledFiles } from '../shell/bundled-files.js'
import { bytesOf } from '../shell/bytes-of.js'
import { type DeviceInfo, describeDevice } from '../shell/device.js'
import { loadOrt } from '../shell/ort.js'
import { type CallContext, serve } from '../shell/serve.js'
import type { Progress } from '../shell/use-job.js'
import { type Classified, PhotoClassifier, type RoutingSettings } from './photo-classifier.js'

export interface ClassifyRequest {
  /** A decoded photo, or a frame of the camera. */
  readonly bitmap: ImageBitmap
  readonly settings: RoutingSettings
  /** Whether to run with dense attention too. */
  readonly compare: boolean
  /** Of a frame only one region in one layer is looked at, and nothing is run again to time it. */
  readonly frame?: { readonly layer: number; readonly asking: number }
}

export interface ClassifyResult extends Classified {
  readonly device: DeviceInfo
}

/** Runs whose median is shown; a model that runs for seconds is run no more often than it must. */
const timedRuns = { software: 0, hardware: 5 }

interface Opened {
  readonly runtime: Runtime
  readonly ort: Ort
  readonly classifier: ImageClassifier
}

let opened: Opened | undefined
let loaded: { readonly settings: string; readonly photos: PhotoClassifier } | undefined

type Context = CallContext<Progress>

async function open({ signal, report }: Context): Promise<Opened> {
  if (opened) return opened
  const files = bundledFiles({ 'model.onnx': modelUrl, 'config.json': configUrl })
  const classifier = await loadImageClassifier({
    ...files,
    signal,
    onProgress: bytesOf('Loading the model', report),
  })
  opened = { ort: await loadOrt({ signal, report }), runtime: await createRuntime({ onNotice: () => {} }), classifier }
  return opened
}

/** The model, its attention routed as the settings say. Loaded anew for others, so that nothing of them is kept. */
async function load(
  { runtime, ort, classifier }: Opened,
  settings: RoutingSettings,
  context: Context,
): Promise<PhotoClassifier> {
  const key = JSON.stringify(settings)
  if (loaded?.settings === key) return loaded.photos
  const before = loaded
  loaded = undefined
  await before?.photos[Symbol.asyncDispose]()
  const photos = await PhotoClassifier.load(runtime, ort, classifier, settings, {
    signal: context.signal,
    onStep: (done, total) => context.report({ label: 'Preparing the model for this device', done, total }),
  })
  loaded = { settings: key, photos }
  return photos
}

const api = serve({
  async classify({ bitmap, settings, compare, frame }: ClassifyRequest, context: Context): Promise<ClassifyResult> {
    const { signal, report, checkpoint } = context
    try {
      const all = await open(context)
      const { runtime } = all
      const photos = await load(all, settings, context)
      const classified = await photos.classify(pictureOf(bitmap), {
        compare,
        ...(frame && { layers: [frame.layer], asking: [frame.asking] }),
        timedRuns: frame ? 0 : timedRuns[runtime.software ? 'software' : 'hardware'],
        signal,
        onStep: (done, total) => {
          report({ label: 'Looking at the photo', done, total })
          if (done === 2) checkpoint(runtime.device)
        },
      })
      return { ...classified, device: describeDevice(runtime) }
    } finally {
      bitmap.close()
    }
  },
})

export type VisionApi = typeof api
