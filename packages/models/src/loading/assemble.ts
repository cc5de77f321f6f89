import { SparseAttentionError } from '@sparse-attention/core'
import { parseLanguageModelConfig } from '../config.js'
import type { LanguageModel } from '../language-model.js'
import { createTokenizer } from '../tokenizer.js'
import { parseVideoModelConfig } from '../video/config.js'
import type { VideoModel } from '../video/video-model.js'

/** The files of a language model's checkpoint, in one folder. */
export const checkpointFiles = ['model.onnx', 'tokenizer.json', 'config.json'] as const
export type CheckpointFile = (typeof checkpointFiles)[number]

/**
 * Checks the files of a checkpoint and makes a model of them.
 *
 * @throws SparseAttentionError `INVALID_FILE` that names the file and what is wrong with it.
 */
export function assembleLanguageModel(files: Record<CheckpointFile, Uint8Array<ArrayBuffer>>): LanguageModel {
  const text = (file: CheckpointFile): string => new TextDecoder().decode(files[file])
  const model = files['model.onnx']
  checkOnnx(model)
  const config = parseLanguageModelConfig(text('config.json'))
  const tokenizer = createTokenizer(text('tokenizer.json'))
  if (tokenizer.vocabularySize !== config.vocabularySize) {
    throw new SparseAttentionError('INVALID_FILE', {
      where: 'tokenizer.json',
      message: `tokenizer.json has ${tokenizer.vocabularySize} ids and config.json says ${config.vocabularySize}.`,
      fix: 'Load files of one checkpoint.',
    })
  }
  return { model, tokenizer, config }
}

/** The files of a video model's checkpoint, in one folder. */
export const videoCheckpointFiles = ['model.onnx', 'config.json'] as const
export type VideoCheckpointFile = (typeof videoCheckpointFiles)[number]

/**
 * Checks the files of a video model's checkpoint and makes a model of them.
 *
 * @throws SparseAttentionError `INVALID_FILE` that names the file and what is wrong with it.
 */
export function assembleVideoModel(files: Record<VideoCheckpointFile, Uint8Array<ArrayBuffer>>): VideoModel {
  checkOnnx(files['model.onnx'])
  const config = parseVideoModelConfig(new TextDecoder().decode(files['config.json']))
  return { model: files['model.onnx'], config }
}

/** Every ONNX file starts with protobuf field 1, the version of the format. */
export function checkOnnx(model: Uint8Array): void {
  if (model[0] === 0x08) return
  throw new SparseAttentionError('INVALID_FILE', {
    where: 'model.onnx',
    message: `model.onnx is not an ONNX file: ${model.length} bytes that start with ${model.slice(0, 4).join(' ') || 'none'}.`,
    fix: 'Check its address and that it was downloaded whole.',
  })
}
