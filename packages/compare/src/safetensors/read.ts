import type { ByteSource } from './byte-source.js'
import type { HostTensor } from './dtypes.js'
import { invalidFile, maxHeaderBytes, parseHeader, type SafetensorsHeader, type TensorEntry } from './header.js'

/** A file whose header has been checked. Tensors are read one by one, when asked for. */
export interface SafetensorsReader extends SafetensorsHeader {
  /** @throws INVALID_FILE when the file has no such tensor */
  entry(name: string): TensorEntry
  /**
   * @throws INVALID_FILE when the file has no such tensor, has become shorter, or the tensor does not fit into memory
   */
  read(name: string): Promise<HostTensor>
}

/** Largest tensor that is read: what every supported version of Node can hold in one buffer. */
const maxTensorBytes = 2 ** 32 - 1

/**
 * Reads the header of a safetensors file and checks it, whole, before anything is read on its word.
 *
 * @throws INVALID_FILE
 */
export async function openSafetensors(source: ByteSource): Promise<SafetensorsReader> {
  const { header, dataStart } = await readHeader(source)
  const entry = (name: string) => findEntry(source.name, header, name)
  return { ...header, entry, read: async (name) => readTensor(source, entry(name), dataStart) }
}

async function readHeader(source: ByteSource): Promise<{ header: SafetensorsHeader; dataStart: number }> {
  const { name, sizeBytes } = source
  if (sizeBytes < 8) throw invalidFile(name, `it has ${sizeBytes} bytes, and even the length of its header takes 8`)
  const prefix = await source.read(0, 8)
  const headerBytes = new DataView(prefix.buffer).getBigUint64(0, true)
  if (headerBytes > BigInt(maxHeaderBytes)) {
    throw invalidFile(name, `its header would have ${headerBytes} bytes, more than the format's ${maxHeaderBytes}`)
  }
  const dataStart = 8 + Number(headerBytes)
  if (dataStart > sizeBytes) {
    throw invalidFile(name, `its header would have ${headerBytes} bytes, the whole file has ${sizeBytes}`)
  }
  const header = parseHeader(name, await source.read(8, Number(headerBytes)), sizeBytes - dataStart)
  return { header, dataStart }
}

function findEntry(path: string, { tensors }: SafetensorsHeader, name: string): TensorEntry {
  const entry = tensors.get(name)
  if (entry) return entry
  throw invalidFile(path, `it has no tensor ${JSON.stringify(name)} (it has ${listed([...tensors.keys()])})`, {
    fix: 'Write the file with tensors of these names.',
  })
}

async function readTensor(source: ByteSource, entry: TensorEntry, dataStart: number): Promise<HostTensor> {
  const { name, dtype, shape, begin, end } = entry
  if (end - begin > maxTensorBytes) {
    throw invalidFile(
      source.name,
      `tensor ${JSON.stringify(name)} has ${end - begin} bytes, at most ${maxTensorBytes} are read`,
      {
        fix: 'Save fewer heads or a shorter sequence.',
      },
    )
  }
  return { dtype, shape, bytes: await source.read(dataStart + begin, end - begin) }
}

function listed(names: readonly string[]): string {
  if (names.length === 0) return 'none'
  const shown = names.slice(0, 8).map((name) => JSON.stringify(name))
  return shown.join(', ') + (names.length > shown.length ? ` and ${names.length - shown.length} more` : '')
}
