import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { OptionSpec } from '@sparse-attention/core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseOptions } from './option-values.js'

const options: Record<string, OptionSpec> = {
  topK: { type: 'number', default: 4, integer: true, description: '' },
  mode: { type: 'choice', default: 'sum', choices: ['sum', 'max', 8], description: '' },
  threshold: { type: 'per-head', default: 0.9, description: '' },
}
const method = { id: 'test', options }

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'options-'))
})
afterAll(() => rm(folder, { recursive: true }))

describe('takes', () => {
  it.each<[string, unknown]>([
    ['topK=8', { topK: 8 }],
    ['topK=-1e3', { topK: -1000 }],
    ['mode=max', { mode: 'max' }],
    ['mode=8', { mode: 8 }],
    ['threshold=0.5', { threshold: 0.5 }],
    ['threshold=[[0.5,1],[0,1]]', { threshold: [[0.5, 1], [0, 1]] }], // biome-ignore format: one line a case
  ])('%s', async (pair, expected) => {
    expect(await parseOptions(method, [pair])).toEqual(expected)
  })

  it('a table from a file', async () => {
    const path = join(folder, 'table.json')
    await writeFile(path, '[[0.25, 0.75]]')
    expect(await parseOptions(method, [`threshold=@${path}`, 'topK=1'])).toEqual({ threshold: [[0.25, 0.75]], topK: 1 })
  })
})

describe('refuses', () => {
  it.each<[string, string[], string, RegExp]>([
    ['an unknown name', ['top=1'], 'INVALID_OPTION', /no option 'top'.*topK, mode, threshold/],
    ['a name from the prototype', ['toString=1'], 'INVALID_OPTION', /no option 'toString'/],
    ['no value', ['topK'], 'INVALID_OPTION', /has no value.*topK=4/],
    ['an empty value', ['topK='], 'INVALID_OPTION', /is '', which is not a number/],
    ['words for a number', ['topK=many'], 'INVALID_OPTION', /is 'many', which is not a number/],
    ['a choice that is none', ['mode=min'], 'INVALID_OPTION', /Use one of sum, max, 8/],
    ['a name twice', ['topK=1', 'topK=2'], 'INVALID_OPTION', /given twice/],
    ['a table that is not JSON', ['threshold=[[1'], 'INVALID_OPTION', /its value is not JSON/],
    ['a table file that is not there', ['threshold=@/no/such.json'], 'INVALID_FILE', /cannot be read \(ENOENT\)/],
  ])('%s', async (_, pairs, code, says) => {
    const error = await parseOptions(method, pairs).catch((e: unknown) => e)
    expect(error).toMatchObject({ code })
    expect((error as Error).message).toMatch(says)
  })

  it('a table file that is not JSON', async () => {
    const path = join(folder, 'words.json')
    await writeFile(path, 'words')
    await expect(parseOptions(method, [`threshold=@${path}`])).rejects.toThrow(`${path} is not JSON`)
  })
})
