import { Anchor, Button, FileButton, Text } from '@mantine/core'
import { type DragEvent, type ReactElement, type ReactNode, useState } from 'react'
import shell from '../shell/shell.module.css'
import { type SamplePhoto, samplePhotos } from './photos.js'
import type { Camera } from './use-camera.js'
import classes from './vision.module.css'

export interface PhotoSourceProps {
  readonly camera: Camera
  readonly live: boolean
  /** Name of the photo that is shown. */
  readonly current: string | undefined
  readonly onSample: (photo: SamplePhoto) => void
  readonly onFile: (file: File) => void
  readonly onSnapshot: () => void
  readonly onLive: (on: boolean) => void
}

/** Where the picture comes from: a sample, a file or the camera. */
export function PhotoSource(props: PhotoSourceProps): ReactElement {
  const { current, onSample, onFile } = props
  return (
    <DropTarget onFile={onFile}>
      <ul className={classes.samples} aria-label="Sample photos">
        {samplePhotos.map((photo) => (
          <li key={photo.name}>
            <button type="button" aria-pressed={photo.name === current} onClick={() => onSample(photo)}>
              <img src={photo.url} alt="" width={72} height={72} />
              {photo.name}
            </button>
          </li>
        ))}
      </ul>
      <Text size="xs" c="dimmed">
        Photos:{' '}
        <Anchor inherit underline="always" href="https://doi.org/10.22002/D1.20086">
          Caltech 101
        </Anchor>
        , CC BY 4.0; no training saw them.
      </Text>
      <div className={shell.row}>
        <FileButton accept="image/*" onChange={(file) => file && onFile(file)}>
          {(button) => (
            <Button variant="default" {...button}>
              Choose a file
            </Button>
          )}
        </FileButton>
        <Text size="sm">or drop one here</Text>
      </div>
      <CameraControls {...props} />
    </DropTarget>
  )
}

function DropTarget({ onFile, children }: { onFile: (file: File) => void; children: ReactNode }): ReactElement {
  const [over, setOver] = useState(false)
  const drop = (event: DragEvent) => {
    event.preventDefault()
    setOver(false)
    const file = event.dataTransfer.files[0]
    if (file) onFile(file)
  }
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: dropping is for the mouse; the button inside does the same
    <div
      className={`${shell.stack} ${over ? classes.dropped : ''}`}
      data-testid="drop"
      onDragOver={(event) => {
        event.preventDefault()
        setOver(true)
      }}
      onDragLeave={() => setOver(false)}
      onDrop={drop}
    >
      {children}
    </div>
  )
}

function CameraControls({ camera, live, onSnapshot, onLive }: PhotoSourceProps): ReactElement {
  const { state, video } = camera
  const on = state.status === 'on'
  return (
    <>
      {/* The picture is looked at in this browser and goes nowhere. */}
      <video
        ref={video}
        className={on ? classes.video : classes.off}
        muted
        playsInline
        aria-label="What the camera sees"
      />
      <div className={shell.row}>
        {on ? (
          <>
            <Button variant="default" disabled={live} onClick={onSnapshot}>
              Take this picture
            </Button>
            <Button variant="default" onClick={() => onLive(!live)}>
              {live ? 'Stop live' : 'Live'}
            </Button>
            <Button
              variant="subtle"
              onClick={() => {
                onLive(false)
                camera.stop()
              }}
            >
              Close the camera
            </Button>
          </>
        ) : (
          <Button variant="default" loading={state.status === 'starting'} onClick={camera.start}>
            Open the camera
          </Button>
        )}
      </div>
      {state.status === 'failed' && (
        <Text size="sm" c="var(--mantine-color-error)" role="alert" data-testid="camera-failed">
          {state.message}
        </Text>
      )}
    </>
  )
}
