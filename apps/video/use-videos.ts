import { useCallback, useEffect, useState } from 'react'
import { connect } from '../shell/connect.js'
import type { DeviceInfo } from '../shell/device.js'
import { type Job, useJob } from '../shell/use-job.js'
import type { MakeRequest, StudioInfo } from './studio.js'
import { type Videos, withStep } from './videos.js'
import type { VideoApi } from './worker.js'

const client = connect<VideoApi>(() => new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' }))

export interface Opened {
  readonly info: StudioInfo
  readonly device: DeviceInfo
}

export interface VideosHook {
  /** Loads the model when the page opens. */
  readonly opening: Job<Opened>
  readonly making: Job<void>
  /** Of the last request, also while they come, and after it was cancelled or failed. */
  readonly videos: Videos | undefined
  make(request: MakeRequest): void
}

export function useVideos(): VideosHook {
  const opening = useJob<Opened>()
  const making = useJob<void>()
  const [videos, setVideos] = useState<Videos>()
  const { run: open } = opening
  const { run } = making

  useEffect(() => {
    open(({ signal, report }) => client.call('open', undefined, { signal, onReport: report }))
  }, [open])

  const make = useCallback(
    (request: MakeRequest): void => {
      run(async ({ signal, report }) => {
        setVideos({ request, dense: [], sparse: [] })
        await client.call('make', request, {
          signal,
          onReport: (heard) => {
            if (!('kind' in heard)) return report(heard)
            if (heard.kind === 'preparing') return report({ label: `Compiling ${heard.method}` })
            if (signal.aborted) return
            const { made } = heard
            setVideos((videos) => videos && withStep(videos, made))
            const done = 2 * made.step + (made.pane === 'sparse' ? 2 : 1)
            report({ label: 'Denoising', done, total: 2 * request.steps })
          },
        })
      })
    },
    [run],
  )
  return { opening, making, videos, make }
}
