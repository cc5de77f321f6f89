import type { LanguageModel } from '../language-model.js'
import type { VideoModel } from '../video/video-model.js'
import { assembleLanguageModel, assembleVideoModel, checkpointFiles, videoCheckpointFiles } from './assemble.js'
import { type DownloadOptions, download, folderUrl } from './download.js'

export interface LoadOptions extends DownloadOptions {
  /**
   * URL of the folder to load from; in Node a path or `file:` URL too. Default: in Node what this package ships, else
   * there is none: serve the package's `checkpoints/bookworm-9m` (`checkpoints/drifters-7m`, `checkpoints/kestrel-3m`, `data`) and give its address.
   */
  readonly from?: string | URL
}

/**
 * Loads `model.onnx`, `tokenizer.json` and `config.json` (9.7 MB for bookworm-9m) from a folder and checks them.
 *
 * @throws SparseAttentionError `INVALID_ARGUMENT` without a usable `from`; `INVALID_FILE` where a file is missing,
 * truncated or of another kind. An aborted `signal` rejects with its reason.
 */
export async function loadLanguageModel(options: LoadOptions = {}): Promise<LanguageModel> {
  const folder = folderUrl(options.from, checkpointFiles.join(', '))
  return assembleLanguageModel(await download(folder, checkpointFiles, options))
}

/**
 * Loads `model.onnx` and `config.json` of a video model from a folder and checks them.
 *
 * @throws as `loadLanguageModel`.
 */
export async function loadVideoModel(options: LoadOptions = {}): Promise<VideoModel> {
  const folder = folderUrl(options.from, videoCheckpointFiles.join(', '))
  return assembleVideoModel(await download(folder, videoCheckpointFiles, options))
}

/** File name of the book that tests and demos read from. */
export const heldOutBook = 'pride_and_prejudice.txt'

/**
 * Loads the text of "Pride and Prejudice" (738 kB; Project Gutenberg 1342), which no training saw.
 *
 * @throws as `loadLanguageModel`.
 */
export async function loadHeldOutBook(options: LoadOptions = {}): Promise<string> {
  const files = await download(folderUrl(options.from, heldOutBook), [heldOutBook], options)
  return new TextDecoder().decode(files[heldOutBook])
}
