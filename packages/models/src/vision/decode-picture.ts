import { SparseAttentionError } from '@sparse-attention/core'
import type { Picture } from './preprocess.js'

/**
 * Decodes a picture in a browser at its own size: turned as its EXIF says, in sRGB. Nothing is scaled, since browsers differ in
 * how they do that.
 *
 * @throws INVALID_FILE for what the browser cannot decode
 */
export async function decodePicture(file: Blob): Promise<Picture> {
  let bitmap: ImageBitmap
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: 'from-image', premultiplyAlpha: 'none' })
  } catch (cause) {
    throw new SparseAttentionError('INVALID_FILE', {
      message: `The file (${file.size} bytes, ${file.type || 'of no known type'}) is no picture that this browser can decode.`,
      fix: 'Give a JPEG, PNG or WebP.',
      where: 'picture',
      cause,
    })
  }
  try {
    const { width, height } = bitmap
    const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true })!
    context.drawImage(bitmap, 0, 0)
    return { width, height, channels: 4, data: context.getImageData(0, 0, width, height, { colorSpace: 'srgb' }).data }
  } finally {
    bitmap.close()
  }
}
