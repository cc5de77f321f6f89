import { mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SparseAttentionError } from '@sparse-attention/core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type HostTensor, openSafetensors, readSafetensors, writeSafetensors } from './index.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'safetensors-'))
})
afterAll(() => rm(folder, { recursive: true }))

const f32 = (shape: number[], values: number[]): HostTensor => ({
  dtype: 'F32',
  shape,
  bytes: new Uint8Array(new Float32Array(values).buffer),
})

describe('round trip', () => {
  it('keeps names, dtypes, shapes, bytes and metadata', async () => {
    const path = join(folder, 'round-trip.safetensors')
    const tensors: Record<string, HostTensor> = {
      q: f32([2, 3], [1, -2, 3.5, 0, Number.NaN, Number.NEGATIVE_INFINITY]),
      mask: { dtype: 'U8', shape: [5], bytes: new Uint8Array([1, 0, 1, 1, 0]) },
      half: { dtype: 'F16', shape: [1, 3], bytes: new Uint8Array([0, 60, 0, 64, 1, 0]) },
      scalar: f32([], [7]),
      empty: { dtype: 'BF16', shape: [0, 4], bytes: new Uint8Array() },
      ключ: f32([1], [1]),
    }
    await writeSafetensors(path, tensors, { method: 'dense', note: 'a "quoted" word' })
    const read = await readSafetensors(path)
    expect(read.metadata).toEqual({ method: 'dense', note: 'a "quoted" word' })
    expect(Object.fromEntries(read.tensors)).toEqual(tensors)
  })

  it('aligns every tensor for its dtype and leaves no other file behind', async () => {
    const own = await mkdtemp(join(folder, 'own-'))
    const path = join(own, 'aligned.safetensors')
    const odd = { dtype: 'U8', shape: [3], bytes: new Uint8Array(3) } as const
    await writeSafetensors(path, { a: odd, b: f32([1], [1]), c: odd })
    const reader = await openSafetensors(path)
    expect([...reader.tensors.values()].map(({ name, begin }) => [name, begin])).toEqual([
      ['b', 0],
      ['a', 4],
      ['c', 7],
    ])
    await reader.close()
    expect(await readdir(own)).toEqual(['aligned.safetensors'])
  })

  it('refuses to write bytes that do not fit the shape', async () => {
    const wrong = { dtype: 'F32', shape: [2], bytes: new Uint8Array(4) } as const
    const writing = writeSafetensors(join(folder, 'wrong.safetensors'), { wrong })
    await expect(writing).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', where: 'wrong' })
  })

  it('names a folder that it cannot write to', async () => {
    const path = join(folder, 'no', 'such', 'folder.safetensors')
    await expect(writeSafetensors(path, {})).rejects.toMatchObject({ code: 'INVALID_FILE', where: path })
  })

  it('names the tensors that are there when one is not', async () => {
    const path = join(folder, 'names.safetensors')
    await writeSafetensors(path, { k: f32([1], [1]), v: f32([1], [1]) })
    const reader = await openSafetensors(path)
    await expect(reader.read('q')).rejects.toThrow(/no tensor "q" \(it has "k", "v"\)/)
    await reader.close()
  })

  it('notices a file that is cut off while it is open', async () => {
    const path = join(folder, 'shrinking.safetensors')
    await writeSafetensors(path, { q: f32([64], new Array(64).fill(1)) })
    const reader = await openSafetensors(path)
    await truncate(path, 100)
    await expect(reader.read('q')).rejects.toMatchObject({ code: 'INVALID_FILE' })
    await reader.close()
  })
})

/** Length, header, data; the length is the header's own unless another is claimed. */
function file(header: string | Uint8Array, dataBytes: number, claimed?: bigint): Uint8Array {
  const json = typeof header === 'string' ? new TextEncoder().encode(header) : header
  const bytes = new Uint8Array(8 + json.length + dataBytes)
  new DataView(bytes.buffer).setBigUint64(0, claimed ?? BigInt(json.length), true)
  bytes.set(json, 8)
  return bytes
}

const entry = (dtype: unknown, shape: unknown, offsets: unknown): string =>
  JSON.stringify({ dtype, shape, data_offsets: offsets })
const one = (dtype: unknown, shape: unknown, offsets: unknown, dataBytes: number): Uint8Array =>
  file(`{"q":${entry(dtype, shape, offsets)}}`, dataBytes)
const q = entry('F32', [2], [0, 8])

/** Name, bytes, and what the message must say about them. */
const hostile: [string, Uint8Array, RegExp][] = [
  ['an empty file', new Uint8Array(), /it has 0 bytes/],
  ['seven bytes', new Uint8Array(7), /it has 7 bytes/],
  ['a header of no bytes', file('', 0), /does not start with '\{'/],
  ['a header longer than the file', file('{}', 0, 3n), /the whole file has 10/],
  ['a header above the cap', file('{}', 0, 100_000_001n), /more than the format's 100000000/],
  ['a header of 2⁶⁴ − 1 bytes', file('{}', 0, 2n ** 64n - 1n), /18446744073709551615 bytes/],
  ['a header that is not UTF-8', file(new Uint8Array([0x7b, 0xff, 0x7d]), 0), /not UTF-8/],
  ['a byte order mark', file('\uFEFF{}', 0), /does not start with/],
  ['white space first', file(' {}', 0), /does not start with/],
  ['a header that is an array', file('[]', 0), /does not start with/],
  ['a header that is cut off', file(`{"q":${q}`, 8), /not JSON/],
  ['something behind the header', file('{}{}', 0), /not JSON/],
  ['a zip file', file('PK\u0003\u0004{}', 8), /does not start with/],
  ['a name twice', file(`{"q":${q},"q":${q}}`, 8), /the key "q" twice/],
  ['a name twice, once escaped', file(`{"q":${q},"\\u0071":${q}}`, 8), /the key "q" twice/],
  ['a field twice', file('{"q":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}', 8), /"shape" twice/],
  ['metadata that is a list', file('{"__metadata__":[]}', 0), /__metadata__ is not/],
  ['metadata that holds a number', file('{"__metadata__":{"a":1}}', 0), /__metadata__ is not/],
  ['an entry that is null', file('{"q":null}', 0), /tensor "q" is not an object/],
  ['an entry that is a list', file('{"q":[]}', 0), /tensor "q" is not an object/],
  ['an unknown field', file('{"q":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}}', 8), /unknown field "x"/],
  ['no dtype', one(undefined, [2], [0, 8], 8), /has dtype none/],
  ['an unknown dtype', one('F33', [2], [0, 8], 8), /has dtype "F33"/],
  ['a dtype from the prototype', one('toString', [2], [0, 8], 8), /has dtype "toString"/],
  ['no shape', one('F32', undefined, [0, 8], 8), /has shape none/],
  ['a negative size', one('F32', [-2], [0, 8], 8), /has shape \[-2\]/],
  ['a fractional size', one('F32', [2.5], [0, 10], 10), /has shape \[2\.5\]/],
  ['a size that is text', one('F32', ['2'], [0, 8], 8), /has shape \["2"\]/],
  [
    'a shape nested too deep',
    file(`{"q":{"shape":${'['.repeat(2e5)}${']'.repeat(2e5)},"dtype":"F32"}}`, 0),
    /has shape/,
  ],
  ['a size beyond exact integers', one('F32', [2 ** 60], [0, 8], 8), /has shape/],
  ['a product beyond exact integers', one('F32', [2 ** 30, 2 ** 30], [0, 8], 8), /too large for any file/],
  ['a product that wraps to 8 bytes', one('U8', [2 ** 32, 2 ** 32, 8], [0, 8], 8), /too large for any file/],
  ['half a byte', one('F4', [3], [0, 2], 2), /not a whole number of bytes/],
  ['too few bytes for the shape', one('F32', [3], [0, 8], 8), /takes 12 bytes, but 8/],
  ['no offsets', one('F32', [2], undefined, 8), /has data_offsets none/],
  ['three offsets', one('F32', [2], [0, 8, 8], 8), /has data_offsets \[0,8,8\]/],
  ['a negative offset', one('F32', [2], [-8, 0], 8), /has data_offsets \[-8,0\]/],
  ['offsets the wrong way round', one('F32', [2], [8, 0], 8), /end before they begin/],
  ['an offset behind the file', one('F32', [2], [0, 8], 7), /is the file cut off/],
  ['an absurd offset', one('F32', [2], [2 ** 52, 2 ** 52 + 8], 8), /ends at byte/],
  ['an overlap', file(`{"q":${q},"k":${entry('F32', [2], [4, 12])}}`, 12), /"k" overlaps "q"/],
  ['two names for the same bytes', file(`{"q":${q},"k":${q}}`, 8), /overlaps/],
  ['a gap before the first tensor', one('F32', [2], [4, 12], 12), /4 bytes lie unused between the header and "q"/],
  [
    'a gap between tensors',
    file(`{"q":${q},"k":${entry('F32', [1], [12, 16])}}`, 16),
    /4 bytes lie unused between "q"/,
  ],
  ['bytes behind the last tensor', one('F32', [2], [0, 8], 9), /1 bytes lie unused behind "q"/],
  ['bytes without a tensor', file('{}', 4), /4 bytes lie unused behind the header/],
  ['a long name with escapes', file(`{"${'\\n'.repeat(1e6)}":null}`, 0), /is not an object/],
]

describe('hostile files', () => {
  it.each(hostile)('refuses %s', async (name, bytes, says) => {
    const path = join(folder, `${name.replaceAll(/\W/g, '-')}.safetensors`)
    await writeFile(path, bytes)
    const error = await openSafetensors(path).catch((e: unknown) => e)
    expect(SparseAttentionError.is(error)).toBe(true)
    expect(error).toMatchObject({ code: 'INVALID_FILE', where: path })
    const { message } = error as Error
    expect(message).toContain(path)
    expect(message).toMatch(says)
    expect(message.length).toBeLessThan(path.length + 400)
  })

  it.each([
    ['a folder', () => folder, /not a regular file/],
    ['a device', () => '/dev/zero', /not a regular file/],
    ['a missing file', () => join(folder, 'missing'), /there is no such file/],
  ])('refuses %s', async (_, path, says) => {
    const error = await openSafetensors(path()).catch((e: unknown) => e)
    expect(error).toMatchObject({ code: 'INVALID_FILE' })
    expect((error as Error).message).toMatch(says)
  })
})
