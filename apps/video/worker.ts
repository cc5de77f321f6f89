import { createRuntime } from '@sparse-attention/core'
import { loadVideoModel } from '@sparse-attention/models'
import configUrl from '@sparse-attention/models/checkpoints/drifters-7m/config.json?url'
import modelUrl from '@sparse-attention/models/checkpoints/drifters-7m/model.onnx?url'
import { bundledFiles } from '../shell/bundled-files.js'
import { bytesOf } from '../shell/bytes-of.js'
import { type DeviceInfo, describeDevice } from '../shell/device.js'
import { loadOrt } from '../shell/ort.js'
import { type CallContext, serve } from '../shell/serve.js'
import type { Progress } from '../shell/use-job.js'
import { type MakeReport, type MakeRequest, type StudioInfo, VideoStudio } from './studio.js'

interface Open {
  readonly studio: VideoStudio
  readonly device: DeviceInfo
}

let opened: Open | undefined

async function open({ signal, report }: Pick<CallContext<Progress>, 'signal' | 'report'>): Promise<Open> {
  const source = await loadVideoModel({
    ...bundledFiles({ 'model.onnx': modelUrl, 'config.json': configUrl }),
    signal,
    onProgress: bytesOf('Loading the model', report),
  })
  const ort = await loadOrt({ signal, report })
  const runtime = await createRuntime({ onNotice: () => {} })
  try {
    const onProgress = (done: number, total: number) => report({ label: 'Preparing the model', done, total })
    const studio = await VideoStudio.open(runtime, ort, source, { signal, onProgress })
    return { studio, device: describeDevice(runtime) }
  } catch (error) {
    runtime.dispose()
    throw error
  }
}

export const api = serve({
  /** Loads the model, once. */
  async open(
    _: undefined,
    context: CallContext<Progress>,
  ): Promise<{ readonly info: StudioInfo; readonly device: DeviceInfo }> {
    opened ??= await open(context)
    return { info: opened.studio.info(), device: opened.device }
  },

  /** Makes both videos, and reports each step. */
  async make(request: MakeRequest, context: CallContext<MakeReport | Progress>): Promise<void> {
    opened ??= await open(context)
    await opened.studio.make(request, {
      signal: context.signal,
      report: (report) => context.report(report),
      checkpoint: (device) => context.checkpoint(device),
    })
  },
})

export type VideoApi = typeof api
