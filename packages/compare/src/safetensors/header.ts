import { SparseAttentionError } from '@sparse-attention/core'
import { bitsPerElement, type SafetensorsDType } from './dtypes.js'

/** One tensor of a file: what it is, and which bytes of the data part hold it. */
export interface TensorEntry {
  readonly name: string
  readonly dtype: SafetensorsDType
  readonly shape: readonly number[]
  /** In bytes from the start of the data, which follows the header. */
  readonly begin: number
  readonly end: number
}

export interface SafetensorsHeader {
  readonly tensors: ReadonlyMap<string, TensorEntry>
  /** The file's `__metadata__`; empty when it has none. */
  readonly metadata: Readonly<Record<string, string>>
}

/** The format's own limit: no real header comes near it, and a larger one is an attack or another kind of file. */
export const maxHeaderBytes = 100_000_000

/** Every refusal names the file and says what is wrong with it. */
export function invalidFile(
  path: string,
  problem: string,
  { cause, fix }: { cause?: unknown; fix?: string } = {},
): SparseAttentionError {
  return new SparseAttentionError('INVALID_FILE', {
    message: `${path} is not a usable safetensors file: ${problem}.`,
    fix: fix ?? 'Write it again, for example with safetensors.torch.save_file.',
    where: path,
    cause,
  })
}

/**
 * Reads the JSON header of a file and checks everything that the format promises, before any tensor is touched: known
 * dtypes, shapes that agree with the byte ranges, and ranges that cover the data once, without gap or overlap.
 *
 * @param dataBytes size of the data part: the file's size less 8 and the header's length
 * @throws INVALID_FILE
 */
export function parseHeader(path: string, header: Uint8Array, dataBytes: number): SafetensorsHeader {
  const root = parseJson(path, header)
  const entries: TensorEntry[] = []
  let metadata: Record<string, string> = {}
  for (const [name, value] of Object.entries(root)) {
    if (name === '__metadata__') metadata = parseMetadata(path, value)
    else entries.push(parseEntry(path, name, value, dataBytes))
  }
  checkCover(path, entries, dataBytes)
  return { tensors: new Map(entries.map((entry) => [entry.name, entry])), metadata }
}

function parseJson(path: string, header: Uint8Array): Record<string, unknown> {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(header)
  } catch (cause) {
    throw invalidFile(path, 'its header is not UTF-8', { cause })
  }
  // The format asks for it, so that a header cannot hide behind white space.
  if (!text.startsWith('{')) throw invalidFile(path, `its header does not start with '{'`)
  let root: unknown
  try {
    root = JSON.parse(text)
  } catch (cause) {
    throw invalidFile(path, 'its header is not JSON', { cause })
  }
  const twice = duplicateKey(text)
  if (twice !== undefined) throw invalidFile(path, `its header has the key ${twice} twice in one object`)
  return root as Record<string, unknown>
}

/** `JSON.parse` keeps the last of two equal keys in silence. The text is valid JSON here, so its tokens are enough. */
function duplicateKey(text: string): string | undefined {
  const objects: Set<string>[] = []
  let string = ''
  for (let at = 0; at < text.length; at++) {
    const token = text[at]
    if (token === '"') {
      const start = at
      while (text[++at] !== '"') if (text[at] === '\\') at++
      string = text.slice(start, at + 1)
    } else if (token === '{') {
      objects.push(new Set())
    } else if (token === '}') {
      objects.pop()
    } else if (token === ':') {
      const keys = objects[objects.length - 1]!
      const key = JSON.parse(string) as string // without escapes: "\u0061" is "a"
      if (keys.has(key)) return brief(key)
      keys.add(key)
    }
  }
  return undefined
}

function parseMetadata(path: string, value: unknown): Record<string, string> {
  if (!isObject(value) || Object.values(value).some((text) => typeof text !== 'string')) {
    throw invalidFile(path, '__metadata__ is not an object of strings')
  }
  return value as Record<string, string>
}

function parseEntry(path: string, name: string, value: unknown, dataBytes: number): TensorEntry {
  const refuse = (problem: string) => invalidFile(path, `tensor ${brief(name)} ${problem}`)
  if (!isObject(value)) throw refuse('is not an object with dtype, shape and data_offsets')
  const { dtype, shape, data_offsets: offsets, ...others } = value
  const [unknown] = Object.keys(others)
  if (unknown !== undefined) throw refuse(`has an unknown field ${brief(unknown)}`)
  if (typeof dtype !== 'string' || !isDType(dtype))
    throw refuse(`has dtype ${brief(dtype)}, which the format does not have`)
  if (!isSizes(shape)) throw refuse(`has shape ${brief(shape)}, where a list of non-negative integers belongs`)
  if (!isSizes(offsets) || offsets.length !== 2) {
    throw refuse(`has data_offsets ${brief(offsets)}, where two non-negative integers belong`)
  }
  const [begin, end] = offsets as [number, number]
  if (begin > end) throw refuse(`has data_offsets [${begin}, ${end}], which end before they begin`)
  if (end > dataBytes) throw refuse(`ends at byte ${end} of the data, which has ${dataBytes} (is the file cut off?)`)
  const bytes = byteLength(dtype, shape)
  if (bytes === undefined) throw refuse(`has shape ${brief(shape)}, which is too large for any file`)
  if (!Number.isInteger(bytes))
    throw refuse(`has shape ${brief(shape)}, which for ${dtype} is not a whole number of bytes`)
  if (bytes !== end - begin) {
    throw refuse(`has shape ${brief(shape)} of ${dtype}, which takes ${bytes} bytes, but ${end - begin} bytes of data`)
  }
  return { name, dtype, shape, begin, end }
}

/** @returns undefined when the product leaves the range of exact integers */
export function byteLength(dtype: SafetensorsDType, shape: readonly number[]): number | undefined {
  if (shape.includes(0)) return 0
  let bits = bitsPerElement[dtype]
  for (const size of shape) {
    bits *= size
    if (!Number.isSafeInteger(bits)) return undefined
  }
  return bits / 8
}

/** The format has every byte of the data belong to exactly one tensor: what else is there could hide anything. */
function checkCover(path: string, entries: readonly TensorEntry[], dataBytes: number): void {
  let covered = 0
  let previous = 'the header'
  for (const { name, begin, end } of [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    const quoted = brief(name)
    if (begin < covered) throw invalidFile(path, `tensor ${quoted} overlaps ${previous}`)
    if (begin > covered)
      throw invalidFile(path, `${begin - covered} bytes lie unused between ${previous} and ${quoted}`)
    covered = end
    previous = quoted
  }
  if (covered < dataBytes) throw invalidFile(path, `${dataBytes - covered} bytes lie unused behind ${previous}`)
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isDType(dtype: string): dtype is SafetensorsDType {
  return Object.hasOwn(bitsPerElement, dtype)
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0 && !Object.is(n, -0))
}

function brief(value: unknown): string {
  let text: string
  try {
    text = JSON.stringify(value) ?? 'none'
  } catch {
    return 'a deeply nested list' // JSON.parse takes any depth, JSON.stringify does not
  }
  return text.length > 60 ? `${text.slice(0, 60)}…` : text
}
