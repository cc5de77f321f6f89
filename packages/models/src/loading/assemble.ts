import { SparseAttentionError } from '@sparse-attention/core'
import { parseLanguageModelConfig } from '../config.js'
import type { LanguageModel } from '../language-model.js'
import { createTokenizer } from '../tokenizer.js'

/** The files of a checkpoint, in one folder. */
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
  // Every ONNX file starts with protobuf field 1, the version of the format.
  if (model[0] !== 0x08) {
    throw new SparseAttentionError('INVALID_FILE', {
      where: 'model.onnx',
      message: `model.onnx is not an ONNX file: ${model.length} bytes that start with ${model.slice(0, 4).join(' ') || 'none'}.`,
      fix: 'Check its address and that it was downloaded whole.',
    })
  }
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
