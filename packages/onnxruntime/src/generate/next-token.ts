import { SparseAttentionError } from '@sparse-attention/core'
import type { AttentionModel } from '../model.js'
import type { ModelCache } from '../model-cache.js'
import type { GeneratedToken } from './generation.js'
import type { GenerateOptions } from './options.js'

/**
 * Reads tokens behind those of a cache, whether the model would have written them or not, and tells what it would write next:
 * one step of teacher forcing. What a generation chose last, and nobody has read yet, is forgotten.
 *
 * @param ids one token at least
 * @throws as `generate` does
 */
export async function nextToken(
  model: Pick<AttentionModel, 'generate'>,
  ids: ArrayLike<number>,
  options: Omit<GenerateOptions, 'maxNewTokens'> & { readonly cache: ModelCache },
): Promise<GeneratedToken> {
  options.cache.truncate(options.cache.length)
  for await (const next of model.generate(ids, { ...options, maxNewTokens: 1 })) return next
  throw new SparseAttentionError('UNSUPPORTED', {
    message: 'The generation of one token ended without one.',
    fix: 'Report it, with the model and the options.',
    where: 'nextToken',
  })
}
