import { SparseAttentionError } from '@sparse-attention/core'
import { bicubicTaps, type Taps } from './bicubic.js'
import type { ImageClassifierConfig } from './image-classifier.js'

/** A decoded picture at its own size: sRGB, 8 bits a channel, rows from the top. */
export interface Picture {
  readonly width: number
  readonly height: number
  /** 3: red, green, blue; 4: and alpha, not premultiplied. */
  readonly channels: 3 | 4
  /** height · width · channels bytes. */
  readonly data: Uint8Array | Uint8ClampedArray
}

/** A rectangle in pixels of a picture. */
export interface Rectangle {
  readonly left: number
  readonly top: number
  readonly width: number
  readonly height: number
}

/** Pixels of a side that are still taken for a picture. */
const longestSide = 2 ** 16

/**
 * What the network sees of a picture: the shorter side scaled to `resizeShorter` by an antialiased bicubic filter, the middle
 * cut out, transparent parts over white, each channel less its mean over its deviation. The same in every runtime, since no
 * decoder, canvas or image library has a part in it.
 *
 * @returns f32 [3, imageSize, imageSize]
 * @throws INVALID_SHAPE for a picture whose bytes are not height · width · channels
 */
export function preprocess(
  picture: Picture,
  config: Pick<ImageClassifierConfig, 'imageSize' | 'resizeShorter' | 'mean' | 'std'>,
): Float32Array<ArrayBuffer> {
  checkPicture(picture)
  const { imageSize: size, mean, std } = config
  const { width, height } = scaledSize(picture, config)
  const columns = bicubicTaps(picture.width, width, Math.floor((width - size) / 2), size)
  const rows = bicubicTaps(picture.height, height, Math.floor((height - size) / 2), size)
  const top = rows[0]!.first
  const last = rows.at(-1)!
  const lines = Array.from({ length: last.first + last.weights.length - top }, (_, y) =>
    scaledLine(picture, top + y, columns),
  )
  const pixels = new Float32Array(3 * size * size)
  for (const [y, { first, weights }] of rows.entries()) {
    for (let x = 0; x < size; x++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0
        for (let i = 0; i < weights.length; i++) sum += weights[i]! * lines[first - top + i]![3 * x + channel]!
        // The filter overshoots at edges; a picture of bytes would be cut off there too.
        const level = Math.min(255, Math.max(0, sum)) / 255
        pixels[(channel * size + y) * size + x] = (level - mean[channel]!) / std[channel]!
      }
    }
  }
  return pixels
}

/** The part of a picture that the network sees, for drawing over it. */
export function seenPart(
  picture: Pick<Picture, 'width' | 'height'>,
  config: Pick<ImageClassifierConfig, 'imageSize' | 'resizeShorter'>,
): Rectangle {
  const { imageSize: size } = config
  const { width, height } = scaledSize(picture, config)
  const [x, y] = [picture.width / width, picture.height / height]
  const [left, top] = [Math.floor((width - size) / 2), Math.floor((height - size) / 2)]
  return { left: left * x, top: top * y, width: size * x, height: size * y }
}

function scaledSize(
  { width, height }: Pick<Picture, 'width' | 'height'>,
  { resizeShorter }: Pick<ImageClassifierConfig, 'resizeShorter'>,
): { readonly width: number; readonly height: number } {
  const factor = resizeShorter / Math.min(width, height)
  return { width: Math.round(width * factor), height: Math.round(height * factor) }
}

/** Row y of the picture over white, scaled: red, green and blue of each column, in 0 … 255. */
function scaledLine({ data, width, channels }: Picture, y: number, columns: readonly Taps[]): Float64Array {
  const line = new Float64Array(3 * columns.length)
  for (const [x, { first, weights }] of columns.entries()) {
    for (let i = 0; i < weights.length; i++) {
      const at = (y * width + first + i) * channels
      const alpha = channels === 4 ? data[at + 3]! / 255 : 1
      for (let channel = 0; channel < 3; channel++) {
        line[3 * x + channel]! += weights[i]! * (alpha * data[at + channel]! + (1 - alpha) * 255)
      }
    }
  }
  return line
}

function checkPicture({ width, height, channels, data }: Picture): void {
  const side = (size: number) => Number.isInteger(size) && size >= 1 && size <= longestSide
  const known = side(width) && side(height) && (channels === 3 || channels === 4)
  if (known && data.length === width * height * channels) return
  throw new SparseAttentionError('INVALID_SHAPE', {
    message: `A picture of ${width} × ${height} pixels and ${channels} channels has ${data.length} bytes.`,
    fix: `Give width · height · channels bytes with sides of 1 to ${longestSide} and 3 or 4 channels.`,
    where: 'picture',
  })
}
