import { SparseAttentionError } from '@sparse-attention/core'
import { brief, parseJsonObject } from './json.js'
import type { LanguageModelConfig } from './language-model.js'

/**
 * Reads the text of a Hugging Face style `config.json` of a Llama.
 *
 * @throws SparseAttentionError `INVALID_FILE` where it is no JSON object, or a size is missing or absurd.
 */
export function parseLanguageModelConfig(text: string): LanguageModelConfig {
  const file = 'config.json'
  const json = parseJsonObject(text, file)
  const number = (key: string, accepted: (value: number) => boolean, allowed: string): number => {
    const value = json[key]
    if (typeof value === 'number' && accepted(value)) return value
    throw new SparseAttentionError('INVALID_FILE', {
      where: file,
      message: `${file}: ${key} is ${brief(value)}.`,
      fix: `It must be ${allowed}; load the file that belongs to the checkpoint.`,
    })
  }
  const size = (key: string): number =>
    number(key, (n) => Number.isInteger(n) && n >= 1 && n <= 2 ** 24, 'an integer from 1 to 16777216')
  const positive = (key: string): number => number(key, (n) => n > 0 && Number.isFinite(n), 'a positive number')

  const queryHeads = size('num_attention_heads')
  const vocabularySize = size('vocab_size')
  return {
    vocabularySize,
    hiddenSize: size('hidden_size'),
    layers: size('num_hidden_layers'),
    queryHeads,
    kvHeads: number(
      'num_key_value_heads',
      (n) => Number.isInteger(n) && n >= 1 && queryHeads % n === 0,
      `a divisor of ${queryHeads}`,
    ),
    headDim: size('head_dim'),
    intermediateSize: size('intermediate_size'),
    ropeTheta: positive('rope_theta'),
    rmsNormEpsilon: positive('rms_norm_eps'),
    maxLength: size('max_position_embeddings'),
    bos: number('bos_token_id', (n) => Number.isInteger(n) && n >= 0 && n < vocabularySize, 'an id of the vocabulary'),
  }
}
