import { SparseAttentionError } from '@sparse-attention/core'
import type { Picture } from './preprocess.js'

/** Pixels of a picture that are still decoded: twice what phones take, and within the canvases of all browsers. */
const mostPixels = 128e6

/**
 * Decodes a picture in a browser at its own size: turned as its EXIF says, in sRGB. Nothing is scaled, since browsers differ in
 * how they do that.
 *
 * @throws INVALID_FILE for what the browser cannot decode, LIMIT_EXCEEDED for more than 128 million pixels
 */
export async function decodePicture(file: Blob): Promise<Picture> {
  const bitmap = await decodeBitmap(file)
  try {
    return pictureOf(bitmap)
  } finally {
    bitmap.close()
  }
}

/** The first half of `decodePicture`, for pages that also show the picture. The bitmap is the caller's to close. */
export async function decodeBitmap(file: Blob): Promise<ImageBitmap> {
  try {
    return await createImageBitmap(file, { imageOrientation: 'from-image', premultiplyAlpha: 'none' })
  } catch (cause) {
    throw new SparseAttentionError('INVALID_FILE', {
      message: `The file (${file.size} bytes, ${file.type || 'of no known type'}) is no picture that this browser can decode.`,
      fix: 'Give a JPEG, PNG or WebP.',
      where: 'picture',
      cause,
    })
  }
}

/**
 * The pixels of a bitmap, in sRGB: of a decoded file, or of a frame of a camera. The bitmap stays the caller's.
 *
 * @throws LIMIT_EXCEEDED for more than 128 million pixels
 */
export function pictureOf(bitmap: ImageBitmap): Picture {
  const { width, height } = bitmap
  const context =
    width * height <= mostPixels && new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true })
  if (!context) {
    throw new SparseAttentionError('LIMIT_EXCEEDED', {
      message: `A picture of ${width} × ${height} pixels is more than is decoded.`,
      fix: 'Make it smaller first; the network sees far fewer pixels anyway.',
      where: 'picture',
    })
  }
  context.drawImage(bitmap, 0, 0)
  return { width, height, channels: 4, data: context.getImageData(0, 0, width, height, { colorSpace: 'srgb' }).data }
}
