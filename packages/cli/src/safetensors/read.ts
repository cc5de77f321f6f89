import { type FileHandle, open } from 'node:fs/promises'
import {
  type AttentionInput,
  type ByteSource,
  type HostTensor,
  invalidFile,
  openSafetensors as openSource,
  readAttentionInput as readInput,
  type SafetensorsReader as SourceReader,
} from '@sparse-attention/compare'

/** An open file whose header has been checked. Tensors are read one by one, when asked for. */
export interface SafetensorsReader extends SourceReader, AsyncDisposable {
  close(): Promise<void>
}

/** Linux moves at most 2³¹ − 4096 bytes in one call. */
const bytesPerRead = 2 ** 30

/**
 * Opens a safetensors file and checks its header, whole, before anything is read on its word.
 *
 * @throws INVALID_FILE
 */
export async function openSafetensors(path: string): Promise<SafetensorsReader> {
  const file = await openFile(path)
  try {
    const reader = await openSource(await fileSource(path, file))
    return { ...reader, close: () => file.close(), [Symbol.asyncDispose]: () => file.close() }
  } catch (error) {
    await file.close()
    throw error
  }
}

/**
 * Reads a whole safetensors file.
 *
 * @throws INVALID_FILE
 */
export async function readSafetensors(
  path: string,
): Promise<{ readonly tensors: ReadonlyMap<string, HostTensor>; readonly metadata: Readonly<Record<string, string>> }> {
  const reader = await openSafetensors(path)
  try {
    const tensors = new Map<string, HostTensor>()
    for (const name of reader.tensors.keys()) tensors.set(name, await reader.read(name))
    return { tensors, metadata: reader.metadata }
  } finally {
    await reader.close()
  }
}

/**
 * Reads `q [B,H,Lq,D]` and `k`, `v [B,Hkv,Lkv,D]` of a file, checked.
 *
 * @throws INVALID_FILE, INVALID_SHAPE, INVALID_DTYPE, naming file and tensor
 */
export async function readAttentionInput(path: string): Promise<AttentionInput> {
  const file = await openFile(path)
  try {
    return await readInput(await fileSource(path, file))
  } finally {
    await file.close()
  }
}

async function openFile(path: string): Promise<FileHandle> {
  let file: FileHandle
  try {
    file = await open(path, 'r')
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    const problem = code === 'ENOENT' ? 'there is no such file' : `it cannot be opened (${code})`
    throw invalidFile(path, problem, { cause, fix: 'Check the path.' })
  }
  const isFile = await file.stat().then(
    (stats) => stats.isFile(),
    () => false,
  )
  if (isFile) return file
  await file.close()
  throw invalidFile(path, 'it is not a regular file', { fix: 'Check the path.' })
}

async function fileSource(path: string, file: FileHandle): Promise<ByteSource> {
  const { size } = await file.stat()
  return { name: path, sizeBytes: size, read: (position, length) => readBytes(path, file, position, length) }
}

/** Into memory of its own, which is aligned for every dtype, as a range of the file need not be. */
async function readBytes(
  path: string,
  file: FileHandle,
  position: number,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length)
  let done = 0
  while (done < length) {
    const { bytesRead } = await file.read(bytes, done, Math.min(length - done, bytesPerRead), position + done)
    if (bytesRead === 0) throw invalidFile(path, `it ends at byte ${position + done}, inside its own data`)
    done += bytesRead
  }
  return bytes
}
