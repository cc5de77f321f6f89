import { readFile } from 'node:fs/promises'
import { SparseAttentionError } from '@sparse-attention/core'
import { describe, expect, it } from 'vitest'
import { parseLanguageModelConfig } from './config.js'
import { createTokenizer } from './tokenizer.js'
import { parseVideoModelConfig } from './video/config.js'
import { parseImageClassifierConfig } from './vision/config.js'

/** What might stand where a size or a name belongs. */
const hostile: readonly unknown[] = [
  null,
  true,
  '',
  '1',
  '64; DROP',
  'x'.repeat(1e5),
  {},
  [],
  [[]],
  [[1]],
  -1,
  0,
  0.5,
  1e308,
  -1e308,
  2 ** 31,
  2 ** 53,
  { valueOf: 1 },
]

const read = (file: string) => readFile(new URL(`../checkpoints/${file}`, import.meta.url), 'utf8')
const files: readonly (readonly [string, (text: string) => unknown])[] = [
  ['bookworm-9m/config.json', parseLanguageModelConfig],
  ['drifters-7m/config.json', parseVideoModelConfig],
  ['kestrel-3m/config.json', parseImageClassifierConfig],
  ['bookworm-9m/tokenizer.json', createTokenizer],
]

/** INVALID_FILE with a short message, or a file that is all right. */
function check(parse: (text: string) => unknown, text: string, what: string): boolean {
  try {
    parse(text)
    return false
  } catch (error) {
    if (!SparseAttentionError.is(error)) throw new Error(`${what}: not a typed error`, { cause: error })
    expect([error.code, error.message.length < 1000], what).toEqual(['INVALID_FILE', true])
    return true
  }
}

describe.each(files)('%s', (file, parse) => {
  it('cut short at any place is refused', async () => {
    const text = (await read(file)).trimEnd()
    for (let i = 0; i < 100; i++) {
      const length = Math.floor((text.length * i) / 100)
      expect(check(parse, text.slice(0, length), `cut to ${length}`), `cut to ${length}`).toBe(true)
    }
  })

  it('with any of its values replaced is refused, or is another valid file; nothing leaks into prototypes', async () => {
    const json = JSON.parse(await read(file)) as Record<string, unknown>
    // A tokenizer is built in some 50 ms where the file is all right.
    const values = file.includes('tokenizer') ? hostile.slice(0, 7) : hostile
    let refused = 0
    for (const key of Object.keys(json)) {
      for (const value of values)
        if (check(parse, JSON.stringify({ ...json, [key]: value }), `${key}: ${JSON.stringify(value)?.slice(0, 40)}`))
          refused++
      const { [key]: _, ...rest } = json
      check(parse, JSON.stringify(rest), `without ${key}`)
    }
    expect(refused).toBeGreaterThan(20)
    const polluting = JSON.stringify(json).replace(
      '{',
      '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},',
    )
    check(parse, polluting, '__proto__')
    expect(({} as { polluted?: number }).polluted).toBeUndefined()
    for (const bomb of [
      '['.repeat(1e6),
      '{"a":'.repeat(1e5),
      `{"a":${'9'.repeat(1e6)}}`,
      `{"a":"${'\\u0041'.repeat(1e5)}"}`,
    ]) {
      expect(check(parse, bomb, 'a bomb')).toBe(true)
    }
  })
})
