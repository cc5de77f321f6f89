import { SparseAttentionError } from '@sparse-attention/core'
import { describe, expect, it } from 'vitest'
import { tokenizer, tokenizerText } from './fixtures/load.js'
// Written by recipes/bookworm-9m/train.py with the Python library `tokenizers`.
import fixture from './fixtures/tokenizer.json' with { type: 'json' }
import { createTokenizer } from './tokenizer.js'

describe('bookworm-9m tokenizer', () => {
  it.each(fixture)('encodes $text as the Python library does, and back', ({ text, ids }) => {
    expect(tokenizer.encode(text)).toEqual(ids)
    expect(tokenizer.decode(ids)).toBe(text)
  })

  it('gives every digit an id of its own', () => {
    expect(new Set(tokenizer.encode('0123456789')).size).toBe(10)
  })

  it.each([-1, 4096, 0.5, Number.NaN])('refuses to decode the id %s', (id) => {
    expect(() => tokenizer.decode([1, id])).toThrow(/INVALID_ARGUMENT|ids holds/)
  })
})

describe('a hostile tokenizer.json', () => {
  type Json = { model: { vocab: Record<string, unknown>; merges: unknown[]; type: string }; added_tokens: unknown[] }
  const changed = (change: (json: Json & Record<string, unknown>) => void): string => {
    const json = JSON.parse(tokenizerText)
    change(json)
    return JSON.stringify(json)
  }

  const deep = (inner: object, depth = 5): object =>
    Array.from({ length: depth }).reduce<object>((json) => ({ type: 'Sequence', normalizers: [json] }), {
      type: 'Replace',
      pattern: inner,
      content: '',
    })

  it('with patterns that tokenizers have is taken', () => {
    const gpt = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
    const llama =
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
    for (const Regex of [gpt, llama, '[+*(]+']) {
      const text = changed((json) => {
        json.pre_tokenizer = {
          type: 'Sequence',
          pretokenizers: [
            { type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false },
            { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
          ],
        }
      })
      expect(createTokenizer(text).encode('The end.').length).toBeGreaterThan(1)
    }
  })

  it.each<[string, string]>([
    ['empty', ''],
    ['truncated', tokenizerText.slice(0, 50_000)],
    ['a page of a server', '<!doctype html><title>Not found</title>'],
    ['null', 'null'],
    ['an array', '[]'],
    ['an empty object', '{}'],
    ['deeply nested', `${'['.repeat(200_000)}`],
    ['of another model type', changed((json) => (json.model.type = 'Unigram'))],
    ['with a vocabulary that is an array', changed((json) => (json.model.vocab = [] as never))],
    ['with an empty vocabulary', changed((json) => (json.model.vocab = {}))],
    ['with a text for an id', changed((json) => (json.model.vocab.e = '36'))],
    ['with a huge id', changed((json) => (json.model.vocab.e = 4e9))],
    ['with a negative id', changed((json) => (json.model.vocab.e = -1))],
    ['with an id twice', changed((json) => (json.model.vocab.e = json.model.vocab.t))],
    ['with merges that are an object', changed((json) => (json.model.merges = {} as never))],
    ['with a merge of three', changed((json) => json.model.merges.push(['a', 'b', 'c']))],
    ['with a merge of numbers', changed((json) => json.model.merges.push([1, 2]))],
    ['with a merge into nothing', changed((json) => json.model.merges.push(['the', 'Ġquixotic']))],
    ['with an added token of no known id', changed((json) => json.added_tokens.push({ id: 7, content: '<|eos|>' }))],
    ['with added tokens that are a number', changed((json) => (json.added_tokens = 3 as never))],
    ['with an unknown pre-tokenizer', changed((json) => (json.pre_tokenizer = { type: 'Nonsense' }))],
    ['with a pre-tokenizer of the wrong type', changed((json) => (json.pre_tokenizer = 5))],
    ['with an added token that is nowhere', changed((json) => json.added_tokens.push({ content: '<|nowhere|>' }))],
    ['with an added token of the prototype', changed((json) => json.added_tokens.push({ content: 'constructor' }))],
    ...['(a+)+$', '(?:a|a)*b', '([a-z]+){3,}', '\\s*\\s*\\s*\\s*\\s*x', `a${'|b'.repeat(2000)}`, '(', '\\1(a)'].map(
      (Regex): [string, string] => [
        `with the pattern ${Regex.slice(0, 20)}, which may take for ever`,
        changed((json) => (json.pre_tokenizer = { type: 'Split', pattern: { Regex }, behavior: 'Isolated' })),
      ],
    ),
    ['with such a pattern deep in its normalizer', changed((json) => (json.normalizer = deep({ Regex: '(a*)*' })))],
    ['with a decoder nested too deep', changed((json) => (json.decoder = deep({}, 40)))],
    ['with an unknown decoder', changed((json) => (json.decoder = { type: 'Nonsense' }))],
  ])('%s is a typed error', (_name, text) => {
    let error: unknown
    try {
      createTokenizer(text)
    } catch (caught) {
      error = caught
    }
    expect(SparseAttentionError.is(error), String(error)).toBe(true)
    expect(error).toMatchObject({ code: 'INVALID_FILE', where: 'tokenizer.json' })
    expect((error as Error).message.length).toBeLessThan(400)
  })
})
