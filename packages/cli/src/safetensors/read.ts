import { type FileHandle, open } from 'node:fs/promises'
import type { HostTensor } from './dtypes.js'
import { invalidFile, maxHeaderBytes, parseHeader, type SafetensorsHeader, type TensorEntry } from './header.js'

/** An open file whose header has been checked. Tensors are read one by one, when asked for. */
export interface SafetensorsReader extends SafetensorsHeader, AsyncDisposable {
  /** @throws INVALID_FILE when the file has no such tensor */
  entry(name: string): TensorEntry
  /**
   * @throws INVALID_FILE when the file has no such tensor, has become shorter, or the tensor does not fit into memory
   */
  read(name: string): Promise<HostTensor>
  close(): Promise<void>
}

/** Largest tensor that is read: what every supported version of Node can hold in one buffer. */
const maxTensorBytes = 2 ** 32 - 1
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
    const { header, dataStart } = await readHeader(path, file)
    const entry = (name: string) => findEntry(path, header, name)
    return {
      ...header,
      entry,
      read: async (name) => readTensor(path, file, entry(name), dataStart),
      close: () => file.close(),
      [Symbol.asyncDispose]: () => file.close(),
    }
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

async function readHeader(path: string, file: FileHandle): Promise<{ header: SafetensorsHeader; dataStart: number }> {
  const { size } = await file.stat()
  if (size < 8) throw invalidFile(path, `it has ${size} bytes, and even the length of its header takes 8`)
  const prefix = await readBytes(path, file, 0, 8)
  const headerBytes = new DataView(prefix.buffer).getBigUint64(0, true)
  if (headerBytes > BigInt(maxHeaderBytes)) {
    throw invalidFile(path, `its header would have ${headerBytes} bytes, more than the format's ${maxHeaderBytes}`)
  }
  const dataStart = 8 + Number(headerBytes)
  if (dataStart > size)
    throw invalidFile(path, `its header would have ${headerBytes} bytes, the whole file has ${size}`)
  const header = parseHeader(path, await readBytes(path, file, 8, Number(headerBytes)), size - dataStart)
  return { header, dataStart }
}

function findEntry(path: string, { tensors }: SafetensorsHeader, name: string): TensorEntry {
  const entry = tensors.get(name)
  if (entry) return entry
  throw invalidFile(path, `it has no tensor ${JSON.stringify(name)} (it has ${listed([...tensors.keys()])})`, {
    fix: 'Write the file with tensors of these names.',
  })
}

async function readTensor(path: string, file: FileHandle, entry: TensorEntry, dataStart: number): Promise<HostTensor> {
  const { name, dtype, shape, begin, end } = entry
  if (end - begin > maxTensorBytes) {
    throw invalidFile(
      path,
      `tensor ${JSON.stringify(name)} has ${end - begin} bytes, at most ${maxTensorBytes} are read`,
      {
        fix: 'Save fewer heads or a shorter sequence.',
      },
    )
  }
  return { dtype, shape, bytes: await readBytes(path, file, dataStart + begin, end - begin) }
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

function listed(names: readonly string[]): string {
  if (names.length === 0) return 'none'
  const shown = names.slice(0, 8).map((name) => JSON.stringify(name))
  return shown.join(', ') + (names.length > shown.length ? ` and ${names.length - shown.length} more` : '')
}
