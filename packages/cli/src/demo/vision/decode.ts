import { readFile } from 'node:fs/promises'
import { SparseAttentionError } from '@sparse-attention/core'
import type { Picture } from '@sparse-attention/models'
import { loadSharp } from '../../figures/plan-picture.js'

/**
 * Decodes a picture file at its own size: turned as its EXIF says, in sRGB. Nothing is scaled, so that what a network is given
 * does not depend on the library.
 *
 * @throws INVALID_FILE for what cannot be read or decoded, MISSING_DEPENDENCY without sharp
 */
export async function decodePictureFile(path: string): Promise<Picture> {
  const sharp = await loadSharp()
  try {
    const { data, info } = await sharp(await readFile(path))
      .autoOrient()
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true })
    return { width: info.width, height: info.height, channels: info.channels as 3 | 4, data }
  } catch (cause) {
    throw new SparseAttentionError('INVALID_FILE', {
      message: `${path} is no picture that can be read (${(cause as NodeJS.ErrnoException).code ?? (cause as Error).message}).`,
      fix: 'Name a JPEG, PNG, WebP, GIF, AVIF or TIFF.',
      where: path,
      cause,
    })
  }
}
