import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { cacheFolder, ensureFiles, readTar } from './cache.js'

describe('cacheFolder', () => {
  test('is under XDG_CACHE_HOME, else under HOME, else under the home of the account', () => {
    expect(cacheFolder({ XDG_CACHE_HOME: '/x', HOME: '/h' })).toBe('/x/sparse-attention')
    expect(cacheFolder({ HOME: '/h' })).toBe('/h/.cache/sparse-attention')
    expect(cacheFolder({ HOME: '' })).toBe(join(userInfo().homedir, '.cache', 'sparse-attention'))
  })

  test('ignores a relative XDG_CACHE_HOME', () => {
    expect(cacheFolder({ XDG_CACHE_HOME: 'x', HOME: '/h' })).toBe('/h/.cache/sparse-attention')
  })
})

describe('ensureFiles', () => {
  let folder: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cache-test-'))
  })
  afterEach(() => rm(folder, { recursive: true }))

  const file = (name: string, bytes: number[]) => ({ name, mode: 0o755, read: async () => Uint8Array.from(bytes) })

  test('writes what is missing, with its mode, in a folder that need not exist', async () => {
    const inner = join(folder, 'a', 'b')
    await ensureFiles(inner, [file('one', [1, 2])])
    expect([...(await readFile(join(inner, 'one')))]).toEqual([1, 2])
    expect((await stat(join(inner, 'one'))).mode & 0o777).toBe(0o755)
  })

  test('leaves a file that is there, and replaces an empty one', async () => {
    await writeFile(join(folder, 'kept'), 'old')
    await writeFile(join(folder, 'empty'), '')
    await ensureFiles(folder, [file('kept', [1]), file('empty', [2])])
    expect(await readFile(join(folder, 'kept'), 'utf8')).toBe('old')
    expect([...(await readFile(join(folder, 'empty')))]).toEqual([2])
  })

  test('a file appears whole: readers at any moment see nothing or all of it', async () => {
    const bytes = Array.from({ length: 1 << 20 }, (_, i) => i & 255)
    const seen = new Set<number>()
    let writing = true
    const reader = (async () => {
      while (writing)
        seen.add(
          await stat(join(folder, 'big')).then(
            (found) => found.size,
            () => 0,
          ),
        )
    })()
    await Promise.all(Array.from({ length: 8 }, () => ensureFiles(folder, [file('big', bytes)])))
    writing = false
    await reader
    expect([...seen].filter((size) => size !== 0 && size !== bytes.length)).toEqual([])
    expect(await readdir(folder)).toEqual(['big'])
  })

  test('leaves nothing behind when a file cannot be made', async () => {
    const broken = { name: 'x', mode: 0o644, read: () => Promise.reject(new Error('no source')) }
    await expect(ensureFiles(folder, [broken])).rejects.toThrow('no source')
    expect(await readdir(folder)).toEqual([])
  })
})

describe('readTar', () => {
  test('gives regular files by name, also those whose size is a multiple of a block', () => {
    const archive = tar([
      { name: 'folder/', type: '5', content: '' },
      { name: 'folder/short.txt', type: '0', content: 'short' },
      { name: 'link', type: '2', content: '' },
      { name: 'block', type: '0', content: 'b'.repeat(512) },
      { name: 'last', type: '\0', content: 'l'.repeat(513) },
    ])
    const files = readTar(archive)
    expect([...files.keys()]).toEqual(['folder/short.txt', 'block', 'last'])
    expect(new TextDecoder().decode(files.get('folder/short.txt'))).toBe('short')
    expect(files.get('block')?.length).toBe(512)
    expect(files.get('last')?.length).toBe(513)
  })

  test('takes a name of the full 100 bytes, which has no terminator', () => {
    const name = 'n'.repeat(100)
    expect([...readTar(tar([{ name, type: '0', content: 'x' }])).keys()]).toEqual([name])
  })
})

function tar(entries: { name: string; type: string; content: string }[]): Uint8Array {
  const blocks = entries.map(({ name, type, content }) => {
    const entry = Buffer.alloc(512 + Math.ceil(content.length / 512) * 512)
    entry.write(name, 0)
    entry.write(`${content.length.toString(8).padStart(11, '0')}\0`, 124)
    entry.write(type, 156)
    entry.write(content, 512)
    return entry
  })
  return Buffer.concat([...blocks, Buffer.alloc(1024)])
}
