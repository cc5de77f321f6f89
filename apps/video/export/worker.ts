import { type CallContext, moved, serve } from '../../shell/serve.js'
import type { Progress } from '../../shell/use-job.js'
import { type ExportedFile, type ExportRequest, exportVideo } from './export-video.js'

/** Apart from the model's worker: files can be made while it computes, or after it was lost. */
export const api = serve({
  async export(request: ExportRequest, { signal, report }: CallContext<Progress>): Promise<ExportedFile> {
    const onFrame = (done: number, total: number) => report({ label: 'Encoding frames', done, total })
    const file = await exportVideo(request, { signal, onFrame })
    return moved(file, [file.bytes.buffer])
  },
})

export type ExportApi = typeof api
