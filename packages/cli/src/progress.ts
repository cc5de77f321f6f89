import type { Writable } from 'node:stream'
import { Presets, SingleBar } from 'cli-progress'

/** Steps of long work. `stop` takes the bar off the screen. */
export interface Progress {
  step(label: string): void
  stop(): void
}

/** A bar on `stream` where it is a terminal and drawing is wanted; elsewhere nothing at all. */
export function progressBar(stream: Writable, total: number, wanted: boolean): Progress {
  if (!wanted || !('isTTY' in stream && stream.isTTY)) return { step() {}, stop() {} }
  const bar = new SingleBar(
    {
      stream: stream as NodeJS.WriteStream,
      format: '{bar} {value}/{total}  {label}',
      clearOnComplete: true,
      hideCursor: true,
    },
    Presets.shades_classic,
  )
  bar.start(total, 0, { label: '' })
  return {
    step: (label) => bar.increment(1, { label }),
    stop: () => bar.stop(),
  }
}
