import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { SparseAttentionError } from '@sparse-attention/core'
import type { LanguageModel } from '../language-model.js'
import {
  assembleLanguageModel,
  assembleVideoModel,
  checkpointFiles,
  videoCheckpointFiles,
} from '../loading/assemble.js'
import {
  heldOutBook,
  type LoadOptions,
  loadHeldOutBook as loadBookFromUrl,
  loadLanguageModel as loadModelFromUrl,
  loadVideoModel as loadVideoModelFromUrl,
} from '../loading/load.js'
import type { VideoModel } from '../video/video-model.js'
import type { ImageClassifier } from '../vision/image-classifier.js'
import {
  assembleImageClassifier,
  classifierFiles,
  loadImageClassifier as loadClassifierFromUrl,
} from '../vision/load.js'

/** Folder of this package, with `checkpoints/` and `data/` in it. */
export function packageFolder(): string {
  return dirname(createRequire(import.meta.url).resolve('@sparse-attention/models/package.json'))
}

/**
 * As in browsers, and from the disk: `from` may be a path or a `file:` URL, and defaults to the bookworm-9m that this
 * package ships.
 */
export async function loadLanguageModel(options: LoadOptions = {}): Promise<LanguageModel> {
  const folder = diskFolder(options.from, 'checkpoints/bookworm-9m')
  return folder === undefined
    ? loadModelFromUrl(options)
    : assembleLanguageModel(await read(folder, checkpointFiles, options))
}

/** As in browsers, and from the disk; `from` defaults to the drifters-7m that this package ships. */
export async function loadVideoModel(options: LoadOptions = {}): Promise<VideoModel> {
  const folder = diskFolder(options.from, 'checkpoints/drifters-7m')
  return folder === undefined
    ? loadVideoModelFromUrl(options)
    : assembleVideoModel(await read(folder, videoCheckpointFiles, options))
}

/** As in browsers, and from the disk; `from` defaults to the kestrel-3m that this package ships. */
export async function loadImageClassifier(options: LoadOptions = {}): Promise<ImageClassifier> {
  const folder = diskFolder(options.from, 'checkpoints/kestrel-3m')
  return folder === undefined
    ? loadClassifierFromUrl(options)
    : assembleImageClassifier(await read(folder, classifierFiles, options))
}

/** As in browsers, and from the disk; `from` defaults to the `data` folder that this package ships. */
export async function loadHeldOutBook(options: LoadOptions = {}): Promise<string> {
  const folder = diskFolder(options.from, 'data')
  if (folder === undefined) return loadBookFromUrl(options)
  return new TextDecoder().decode((await read(folder, [heldOutBook], options))[heldOutBook])
}

/** The folder on this disk that `from` means, or nothing where it is the address of a server. */
function diskFolder(from: string | URL | undefined, shipped: string): string | undefined {
  if (from === undefined) return join(packageFolder(), shipped)
  const address = String(from)
  if (address.startsWith('file:')) return fileURLToPath(address)
  // Two letters at least before the colon: "C:\models" is a path.
  return /^[a-z][a-z0-9+.-]+:/i.test(address) ? undefined : address
}

async function read<File extends string>(
  folder: string,
  files: readonly File[],
  { signal, onProgress }: LoadOptions,
): Promise<Record<File, Uint8Array<ArrayBuffer>>> {
  signal?.throwIfAborted()
  const contents = {} as Record<File, Uint8Array<ArrayBuffer>>
  let loadedBytes = 0
  for (const file of files) {
    try {
      contents[file] = new Uint8Array(await readFile(join(folder, file), { signal }))
    } catch (cause) {
      signal?.throwIfAborted()
      throw new SparseAttentionError('INVALID_FILE', {
        where: join(folder, file),
        message: `Could not read ${join(folder, file)}: ${(cause as Error).message}.`,
        fix: `from must be a folder with ${files.join(', ')}.`,
        cause,
      })
    }
    loadedBytes += contents[file].length
    onProgress?.({ loadedBytes, totalBytes: file === files.at(-1) ? loadedBytes : undefined })
  }
  return contents
}
