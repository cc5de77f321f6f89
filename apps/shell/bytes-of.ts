import type { LoadProgress } from '@sparse-attention/models'
import type { Progress } from './use-job.js'

/** Tells a job's progress of a download: what `onProgress` of the loaders of `@sparse-attention/models` takes. */
export function bytesOf(label: string, report: (progress: Progress) => void): (progress: LoadProgress) => void {
  return ({ loadedBytes, totalBytes }) => {
    const total = totalBytes === undefined ? {} : { total: totalBytes }
    report({ label, done: loadedBytes, ...total, unit: 'bytes' })
  }
}
