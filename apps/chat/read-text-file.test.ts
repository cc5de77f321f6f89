import { expect, test } from 'vitest'
import { readTextFile } from './read-text-file.js'

const file = (bytes: Uint8Array<ArrayBuffer>, size = bytes.length) => ({
  name: 'notes.txt',
  size,
  arrayBuffer: async () => bytes.buffer,
})
const bytes = (text: string) => new TextEncoder().encode(text)

test('reads UTF-8, with a byte order mark or without', async () => {
  expect(await readTextFile(file(bytes('“Ah.”')))).toBe('“Ah.”')
  expect(await readTextFile(file(bytes('\ufeffAh.')))).toBe('Ah.')
})

test.each([
  ['not UTF-8', file(new Uint8Array([0xff, 0xd8])), /not text in UTF-8/],
  ['with zero bytes', file(bytes('a\0b')), /zero bytes/],
  ['empty', file(bytes(' \n')), /is empty/],
  ['too large, without reading it', { ...file(bytes('a'), 9e6), arrayBuffer: () => Promise.reject() }, /9\.0 MB/],
])('refuses a file that is %s', async (_, given, says) => {
  await expect(readTextFile(given)).rejects.toMatchObject({
    code: 'INVALID_FILE',
    message: expect.stringMatching(says),
  })
})
