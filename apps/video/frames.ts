import type { Video } from '@sparse-attention/models'

/** A video as pages draw it. */
export interface Frames {
  readonly count: number
  readonly width: number
  readonly height: number
  /** Red, green, blue and opaque: [count, height, width, 4] */
  readonly pixels: Uint8ClampedArray<ArrayBuffer>
}

/** The video in colours of 8 bits: what is compared is what is seen and saved. */
export function asShown(video: Video): Video {
  return { ...video, pixels: Float32Array.from(video.pixels, (x) => Math.round(255 * x) / 255) }
}

export function framesOf({ frames, height, width, pixels }: Video): Frames {
  const bytes = new Uint8ClampedArray(frames * height * width * 4).fill(255)
  for (let i = 0; i < frames * height * width; i++) {
    for (let colour = 0; colour < 3; colour++) bytes[4 * i + colour] = 255 * pixels[3 * i + colour]!
  }
  return { count: frames, width, height, pixels: bytes }
}

/** The pixels of one frame: a view. */
export function frameAt({ count, width, height, pixels }: Frames, index: number): Uint8ClampedArray<ArrayBuffer> {
  const size = width * height * 4
  const frame = Math.max(0, Math.min(count - 1, index))
  return pixels.subarray(frame * size, (frame + 1) * size)
}
