import { Button, NativeSelect } from '@mantine/core'
import { type ReactElement, useEffect, useId, useState } from 'react'
import shell from '../shell/shell.module.css'
import { Player } from './Player.js'
import type { PaneStep } from './studio.js'
import classes from './video.module.css'
import type { Videos } from './videos.js'

export interface StageProps {
  readonly videos: Videos | undefined
  /** Index of the step that is shown; undefined: each video's latest. */
  readonly step: number | undefined
  readonly onStep: (step: number | undefined) => void
  readonly framesPerSecond: number
  readonly onFramesPerSecond: (framesPerSecond: number) => void
  readonly sparseTitle: string
}

/** The two videos in sync, with what moves them: play, frame, step and speed. */
export function Stage({
  videos,
  step,
  onStep,
  framesPerSecond,
  onFramesPerSecond,
  sparseTitle,
}: StageProps): ReactElement {
  const id = useId()
  const [frame, setFrame] = useState(0)
  const [playing, setPlaying] = useState(() => !matchMedia('(prefers-reduced-motion: reduce)').matches)
  const shown = (steps: readonly PaneStep[] | undefined) => steps?.[Math.min(step ?? Infinity, steps.length - 1)]
  const [dense, sparse] = [shown(videos?.dense), shown(videos?.sparse)]
  const frames = dense?.frames.count ?? 1
  const current = frame % frames

  useEffect(() => {
    if (!playing || frames < 2) return
    const timer = setInterval(() => setFrame((frame) => (frame + 1) % frames), 1000 / framesPerSecond)
    return () => clearInterval(timer)
  }, [playing, frames, framesPerSecond])

  const steps = videos?.request.steps ?? 1
  const made = videos?.sparse.length ?? 0
  const last = Math.max(0, made - 1)
  const stateOf = (of: PaneStep | undefined) => (of ? `after step ${of.step + 1} of ${steps}` : '')
  return (
    <section className={shell.stack} aria-label="Videos">
      <div className={classes.players}>
        <Player title="Dense" state={stateOf(dense)} frames={dense?.frames} frame={current} testId="dense" />
        <Player title={sparseTitle} state={stateOf(sparse)} frames={sparse?.frames} frame={current} testId="sparse" />
      </div>
      <div className={classes.transport}>
        <label htmlFor={`${id}-frame`}>
          Frame {current + 1} of {frames}
        </label>
        <input
          id={`${id}-frame`}
          type="range"
          min={1}
          max={frames}
          value={current + 1}
          disabled={!dense}
          onChange={(event) => {
            setPlaying(false)
            setFrame(Number(event.currentTarget.value) - 1)
          }}
        />
        <label htmlFor={`${id}-step`}>
          Step {made === 0 ? 0 : Math.min(step ?? last, last) + 1} of {steps}
        </label>
        <input
          id={`${id}-step`}
          type="range"
          min={1}
          max={last + 1}
          value={Math.min(step ?? last, last) + 1}
          disabled={made === 0}
          onChange={(event) => {
            const chosen = Number(event.currentTarget.value) - 1
            // The latest is followed.
            onStep(chosen === last ? undefined : chosen)
          }}
        />
      </div>
      <div className={shell.row}>
        <Button variant="default" disabled={!dense} onClick={() => setPlaying(!playing)}>
          {playing ? 'Pause' : 'Play'}
        </Button>
        <NativeSelect
          aria-label="Speed"
          data={[2, 4, 8, 16, 24].map((speed) => ({ value: String(speed), label: `${speed} frames a second` }))}
          value={String(framesPerSecond)}
          onChange={(event) => onFramesPerSecond(Number(event.currentTarget.value))}
        />
      </div>
    </section>
  )
}
