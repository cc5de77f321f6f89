import { Text } from '@mantine/core'
import { type ReactElement, type ReactNode, useEffect, useRef } from 'react'
import { type Frames, frameAt } from './frames.js'
import classes from './video.module.css'

export interface PlayerProps {
  /** Whose video it is. */
  readonly title: string
  /** What it is just now: 'after step 2 of 4'. */
  readonly state: string
  /** Undefined until there is something to show. */
  readonly frames: Frames | undefined
  /** Which frame to show. */
  readonly frame: number
  readonly testId: string
  /** Figures below. */
  readonly children?: ReactNode
}

/** One of the two videos. Which frame it shows is the page's business, so that both go together. */
export function Player({ title, state, frames, frame, testId, children }: PlayerProps): ReactElement {
  const canvas = useRef<HTMLCanvasElement>(null)
  useEffect(() => {
    if (!frames || !canvas.current) return
    const { width, height } = frames
    if (canvas.current.width !== width) canvas.current.width = width
    if (canvas.current.height !== height) canvas.current.height = height
    canvas.current.getContext('2d')!.putImageData(new ImageData(frameAt(frames, frame), width, height), 0, 0)
  }, [frames, frame])
  const label = frames ? `${title}, ${state}, frame ${frame + 1} of ${frames.count}` : `${title}: nothing yet`
  return (
    <figure className={classes.player}>
      <canvas
        ref={canvas}
        className={classes.screen}
        width={16}
        height={16}
        role="img"
        aria-label={label}
        data-testid={testId}
      />
      <figcaption>
        <Text fw={600}>{title}</Text>
        <Text size="sm">{frames ? state : 'nothing yet'}</Text>
        {children}
      </figcaption>
    </figure>
  )
}
