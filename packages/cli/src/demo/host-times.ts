import { median } from '@sparse-attention/compare'
import type { HostTimes } from '@sparse-attention/onnxruntime'

/**
 * Part by part the median of runs of one model. Where some are recorded and some not, as the first ones are not, of those that are as
 * the last one is.
 *
 * @param runs one at least
 */
export function medianHostTimes(runs: readonly HostTimes[]): HostTimes {
  const { captured, piecesMs, attentionsMs } = runs.at(-1)!
  const alike = runs.filter((run) => run.captured === captured)
  const medians = (parts: readonly number[], of: (run: HostTimes) => readonly number[]) =>
    parts.map((_, i) => median(alike.map((run) => of(run)[i]!)))
  return {
    captured,
    piecesMs: medians(piecesMs, (run) => run.piecesMs),
    attentionsMs: medians(attentionsMs, (run) => run.attentionsMs),
    logitsMs: median(alike.map((run) => run.logitsMs)),
  }
}
