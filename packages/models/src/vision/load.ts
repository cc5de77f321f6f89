import { checkOnnx } from '../loading/assemble.js'
import { download, folderUrl } from '../loading/download.js'
import type { LoadOptions } from '../loading/load.js'
import { parseImageClassifierConfig } from './config.js'
import type { ImageClassifier } from './image-classifier.js'

/** The files of an image classifier's checkpoint, in one folder. */
export const classifierFiles = ['model.onnx', 'config.json'] as const
export type ClassifierFile = (typeof classifierFiles)[number]

/**
 * Checks the files of a checkpoint and makes a model of them.
 *
 * @throws SparseAttentionError `INVALID_FILE` that names the file and what is wrong with it.
 */
export function assembleImageClassifier(files: Record<ClassifierFile, Uint8Array<ArrayBuffer>>): ImageClassifier {
  checkOnnx(files['model.onnx'])
  const config = parseImageClassifierConfig(new TextDecoder().decode(files['config.json']))
  return { model: files['model.onnx'], config }
}

/**
 * Loads `model.onnx` and `config.json` (3.5 MB for kestrel-3m) from a folder and checks them.
 *
 * @throws SparseAttentionError `INVALID_ARGUMENT` without a usable `from`; `INVALID_FILE` where a file is missing,
 * truncated or of another kind. An aborted `signal` rejects with its reason.
 */
export async function loadImageClassifier(options: LoadOptions = {}): Promise<ImageClassifier> {
  const folder = folderUrl(options.from, classifierFiles.join(', '))
  return assembleImageClassifier(await download(folder, classifierFiles, options))
}
