import { randomUUID } from 'node:crypto'
import { access, constants, type FileHandle, open, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { SparseAttentionError } from '@sparse-attention/core'
import { bitsPerElement, type HostTensor } from './dtypes.js'
import { byteLength } from './header.js'

/** Linux moves at most 2³¹ − 4096 bytes in one call. */
const bytesPerWrite = 2 ** 30

/**
 * Writes a safetensors file. It appears under its name when it is complete, so that a broken run leaves no broken file.
 *
 * @throws INVALID_ARGUMENT when a tensor's bytes do not fit its dtype and shape
 * @throws INVALID_FILE when the file cannot be written
 */
export async function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, HostTensor>>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  // Widest elements first, as the format's own library writes them: every tensor is then aligned in the file.
  const entries = Object.entries(tensors).sort(
    ([a, { dtype: ofA }], [b, { dtype: ofB }]) => bitsPerElement[ofB] - bitsPerElement[ofA] || (a < b ? -1 : 1),
  )
  const header = encodeHeader(entries, metadata)
  await atomically(path, async (file) => {
    await writeAll(file, header)
    for (const [, { bytes }] of entries) await writeAll(file, bytes)
  })
}

function encodeHeader(
  entries: readonly (readonly [string, HostTensor])[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const fields: [string, unknown][] = Object.keys(metadata).length > 0 ? [['__metadata__', metadata]] : []
  let offset = 0
  for (const [name, { dtype, shape, bytes }] of entries) {
    const expected = byteLength(dtype, shape)
    if (expected !== bytes.byteLength || name === '__metadata__') {
      throw new SparseAttentionError('INVALID_ARGUMENT', {
        message: `Tensor '${name}' has ${bytes.byteLength} bytes for shape [${shape}] of ${dtype}.`,
        fix: `Pass ${expected} bytes, under a name other than __metadata__.`,
        where: name,
      })
    }
    fields.push([name, { dtype, shape, data_offsets: [offset, offset + expected] }])
    offset += expected
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(fields)))
  const padded = Math.ceil(json.length / 8) * 8
  const header = new Uint8Array(8 + padded).fill(0x20)
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true)
  header.set(json, 8)
  return header
}

async function atomically(path: string, write: (file: FileHandle) => Promise<void>): Promise<void> {
  const partial = `${path}.${process.pid}.${randomUUID()}.partial`
  try {
    const file = await open(partial, 'wx')
    try {
      await write(file)
    } finally {
      await file.close()
    }
    await rename(partial, path)
  } catch (cause) {
    await rm(partial, { force: true }).catch(() => {})
    throw unwritable(path, cause)
  }
}

/**
 * Finds out before long work whether its result can be written.
 *
 * @throws INVALID_FILE
 */
export async function checkWritable(path: string): Promise<void> {
  try {
    await access(dirname(path), constants.W_OK)
  } catch (cause) {
    throw unwritable(path, cause)
  }
  const folder = await stat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  )
  if (folder) throw unwritable(path, { code: 'EISDIR' })
}

function unwritable(path: string, cause: unknown): SparseAttentionError {
  return new SparseAttentionError('INVALID_FILE', {
    message: `${path} cannot be written (${(cause as NodeJS.ErrnoException).code ?? cause}).`,
    fix: 'Name a file in a folder that exists and may be written to.',
    where: path,
    cause,
  })
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, Math.min(bytes.length - done, bytesPerWrite))
    done += bytesWritten
  }
}
