import { type RefObject, useCallback, useEffect, useRef, useState } from 'react'

export type CameraState =
  | { readonly status: 'off' | 'starting' | 'on' }
  | { readonly status: 'failed'; readonly message: string }

export interface Camera {
  readonly state: CameraState
  /** Shows the stream; it must be on the page. */
  readonly video: RefObject<HTMLVideoElement | null>
  start(): Promise<void>
  stop(): void
  /** What the camera sees now; undefined when it is off. The caller closes it. */
  frame(): Promise<ImageBitmap | undefined>
}

/** The network sees 160 × 160 pixels; more only takes longer to scale. */
const wanted: MediaStreamConstraints = {
  audio: false,
  video: { facingMode: { ideal: 'environment' }, width: { ideal: 640 }, height: { ideal: 480 } },
}

/** The camera of the machine, asked for when it is started, and let go when it is stopped or the page left. */
export function useCamera(): Camera {
  const [state, setState] = useState<CameraState>({ status: 'off' })
  const video = useRef<HTMLVideoElement>(null)
  const stream = useRef<MediaStream>(undefined)
  const wantsCamera = useRef(false)

  const release = useCallback(() => {
    wantsCamera.current = false
    for (const track of stream.current?.getTracks() ?? []) track.stop()
    stream.current = undefined
    if (video.current) video.current.srcObject = null
  }, [])

  const stop = useCallback(() => {
    release()
    setState({ status: 'off' })
  }, [release])

  const start = useCallback(async () => {
    release()
    wantsCamera.current = true
    setState({ status: 'starting' })
    try {
      if (!navigator.mediaDevices) throw new DOMException('', 'SecurityError')
      const opened = await navigator.mediaDevices.getUserMedia(wanted)
      stream.current = opened
      // Stopped, or the page left, while the browser was asking.
      if (!wantsCamera.current) return release()
      for (const track of opened.getTracks()) {
        track.addEventListener('ended', () => {
          if (stream.current !== opened) return
          release()
          setState({ status: 'failed', message: 'The camera was disconnected, or its permission was taken back.' })
        })
      }
      video.current!.srcObject = opened
      await video.current!.play()
      setState({ status: 'on' })
    } catch (error) {
      if (!wantsCamera.current) return
      release()
      setState({ status: 'failed', message: explainCamera((error as DOMException).name) })
    }
  }, [release])

  const frame = useCallback(async () => (stream.current ? createImageBitmap(video.current!) : undefined), [])

  useEffect(() => release, [release])
  return { state, video, start, stop, frame }
}

/** What an error of `getUserMedia` means, and what to do. */
export function explainCamera(name: string): string {
  switch (name) {
    case 'NotAllowedError':
      return 'The browser does not let this page use the camera. Allow it beside the address, then open the camera again.'
    case 'NotFoundError':
    case 'OverconstrainedError':
      return 'There is no camera. Connect one, or choose a photo.'
    case 'NotReadableError':
    case 'AbortError':
      return 'The camera cannot be opened. Another program may be using it: close that, then open the camera again.'
    case 'SecurityError':
      return 'Browsers give a camera only to pages over HTTPS or from localhost whose host allows it. Choose a photo instead.'
    default:
      return `The camera cannot be opened (${name}). Choose a photo instead.`
  }
}
