import { Tokenizer } from '@huggingface/tokenizers'
import { SparseAttentionError } from '@sparse-attention/core'
import { brief, isJsonObject, type JsonObject, parseJsonObject } from './json.js'
import { findDangerousPattern } from './tokenizer-patterns.js'

/** Text to ids and back, without adding any id of its own. */
export interface LanguageTokenizer {
  readonly vocabularySize: number
  /** @returns the ids of `text`. No BOS is put in front; `<|bos|>` written in the text becomes its id. */
  encode(text: string): number[]
  /** @throws SparseAttentionError `INVALID_ARGUMENT` for an id outside the vocabulary. */
  decode(ids: ArrayLike<number>): string
}

const FILE = 'tokenizer.json'

/**
 * Makes a tokenizer from the text of a Hugging Face `tokenizer.json` with a BPE model.
 *
 * @throws SparseAttentionError `INVALID_FILE` where the file is truncated, of another kind, or contradicts itself.
 */
export function createTokenizer(text: string): LanguageTokenizer {
  const json = parseJsonObject(text, FILE)
  const vocabularySize = checkTokenizer(json)
  let tokenizer: Tokenizer
  try {
    tokenizer = new Tokenizer(json, {})
    tokenizer.encode('The first word may fail where the constructor did not.')
  } catch (cause) {
    throw invalid(`the tokenizer library refuses it (${(cause as Error).message})`, cause)
  }
  return {
    vocabularySize,
    encode(text) {
      return text === '' ? [] : tokenizer.encode(text, { add_special_tokens: false }).ids
    },
    decode(ids) {
      const list = Array.from(ids)
      for (const id of list) {
        if (Number.isInteger(id) && id >= 0 && id < vocabularySize) continue
        throw new SparseAttentionError('INVALID_ARGUMENT', {
          where: 'ids',
          message: `ids holds ${id}.`,
          fix: `Use integers from 0 to ${vocabularySize - 1}.`,
        })
      }
      return list.length === 0 ? '' : tokenizer.decode(list, { skip_special_tokens: false })
    },
  }
}

/**
 * What the library takes on trust: it would build its tables from whatever is there, and fail later or give wrong ids.
 *
 * @returns the number of ids.
 */
function checkTokenizer(json: JsonObject): number {
  const { model, added_tokens: added = [] } = json
  if (!isJsonObject(model)) throw invalid(`model is ${typeof model}, not an object`)
  if (model.type !== 'BPE') throw invalid(`model.type is ${brief(model.type)}, not "BPE"`)
  const { vocab, merges } = model
  if (!isJsonObject(vocab)) throw invalid('model.vocab is not an object')
  if (!Array.isArray(added)) throw invalid('added_tokens is not an array')

  const size = Object.keys(vocab).length
  if (size === 0) throw invalid('model.vocab is empty')
  const taken = new Uint8Array(size)
  for (const [token, id] of Object.entries(vocab)) {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= size || taken[id] === 1) {
      throw invalid(`model.vocab gives ${brief(token)} the id ${brief(id)}; ids are 0 to ${size - 1}`)
    }
    taken[id] = 1
  }
  for (const token of added) {
    if (!isJsonObject(token) || typeof token.content !== 'string' || !holds(vocab, token.content, token.id)) {
      throw invalid(`added_tokens holds ${brief(token)}, which model.vocab does not`)
    }
  }
  for (const part of ['normalizer', 'pre_tokenizer', 'post_processor', 'decoder']) {
    const problem = findDangerousPattern(json[part])
    if (problem !== undefined) throw invalid(`${part} may take for ever: ${problem}`)
  }
  if (!Array.isArray(merges)) throw invalid('model.merges is not an array')
  for (const merge of merges) {
    const pair: unknown = typeof merge === 'string' ? merge.split(' ') : merge
    if (!Array.isArray(pair) || pair.length !== 2 || !pair.every((part) => typeof part === 'string')) {
      throw invalid(`model.merges holds ${brief(merge)}, not a pair of tokens`)
    }
    if (![...pair, pair.join('')].every((part) => Object.hasOwn(vocab, part))) {
      throw invalid(`model.merges joins ${brief(merge)}, which model.vocab does not hold`)
    }
  }
  return size
}

function holds(vocabulary: JsonObject, token: string, id: unknown): boolean {
  return Object.hasOwn(vocabulary, token) && vocabulary[token] === id
}

function invalid(what: string, cause?: unknown): SparseAttentionError {
  return new SparseAttentionError('INVALID_FILE', {
    where: FILE,
    message: `${FILE}: ${what}.`,
    fix: 'Load the file that belongs to the checkpoint, whole.',
    cause,
  })
}
