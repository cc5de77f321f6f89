import { randomUUID } from 'node:crypto'
import { access, constants, type FileHandle, open, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { SparseAttentionError } from '@sparse-attention/core'

/** Linux moves at most 2³¹ − 4096 bytes in one call. */
const bytesPerWrite = 2 ** 30

/**
 * Writes a file from parts. It appears under its name when it is complete, so that a broken run leaves no broken file.
 *
 * @throws INVALID_FILE
 */
export async function writeAtomically(path: string, ...parts: readonly Uint8Array[]): Promise<void> {
  const partial = `${path}.${process.pid}.${randomUUID()}.partial`
  try {
    const file = await open(partial, 'wx')
    try {
      for (const part of parts) await writeAll(file, part)
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
  const isFolder = await stat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  )
  if (isFolder) throw unwritable(path, { code: 'EISDIR' })
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
