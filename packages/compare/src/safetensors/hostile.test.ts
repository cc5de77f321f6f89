import { SparseAttentionError } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { expect, test } from 'vitest'
import { readAttentionInput } from '../attention-input.js'
import { type ByteSource, blobSource } from './byte-source.js'
import { openSafetensors } from './read.js'
import { encodeSafetensors } from './write.js'

const tensor = { dtype: 'F32' as const, shape: [1, 1, 2, 8], bytes: new Uint8Array(64) }

async function whole(): Promise<Uint8Array<ArrayBuffer>> {
  const blob = new Blob(encodeSafetensors({ q: tensor, k: tensor, v: tensor }) as BlobPart[])
  return new Uint8Array(await blob.arrayBuffer())
}

/** The error with which bytes are refused as the input of an attention; undefined when they are taken. */
async function refusal(bytes: Uint8Array<ArrayBuffer>): Promise<SparseAttentionError | undefined> {
  const error = await readAttentionInput(blobSource(new Blob([bytes]), 'dropped')).then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (error !== undefined && !SparseAttentionError.is(error)) throw error
  return error as SparseAttentionError | undefined
}

test('a file cut short at any byte is refused', async () => {
  const bytes = await whole()
  expect(await refusal(bytes)).toBeUndefined()
  for (let length = 0; length < bytes.length; length++) {
    expect((await refusal(bytes.slice(0, length)))?.code, `${length} bytes`).toBe('INVALID_FILE')
  }
})

test('a file with bytes changed at random is refused with a typed error, or is another valid file (seed 9)', async () => {
  const bytes = await whole()
  const random = createRandom(9)
  const header = Number(new DataView(bytes.buffer).getBigUint64(0, true)) + 8
  let refused = 0
  for (let i = 0; i < 500; i++) {
    const changed = bytes.slice()
    for (let j = random.integer(1, 3); j > 0; j--) changed[random.integer(0, header - 1)] = random.integer(0, 255)
    const error = await refusal(changed)
    if (error) expect(error.code).toMatch(/^INVALID_(FILE|SHAPE|DTYPE)$/)
    if (error) refused++
  }
  expect(refused).toBeGreaterThan(400)
})

test('nothing is read on the word of a length that has not been checked', async () => {
  const bytes = await whole()
  const reads: number[] = []
  const watched = (): ByteSource => {
    reads.length = 0
    const blob = blobSource(new Blob([bytes]), 'watched')
    return {
      ...blob,
      read(position, length) {
        reads.push(length)
        return blob.read(position, length)
      },
    }
  }
  await openSafetensors(watched())
  expect(reads).toHaveLength(2)
  new DataView(bytes.buffer).setBigUint64(0, 2n ** 63n, true)
  await expect(openSafetensors(watched())).rejects.toMatchObject({ code: 'INVALID_FILE' })
  expect(reads).toEqual([8])
})
