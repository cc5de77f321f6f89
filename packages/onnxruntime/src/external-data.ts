import { SparseAttentionError } from '@sparse-attention/core'
import { TensorProto_DataLocation } from 'onnx-buf'
import { bytesOfTensor } from './check-tensors.js'
import { invalidFile, reasonOf } from './errors.js'
import type { GraphProto, ModelProto, NodeProto, TensorProto } from './onnx.js'

/** A file that lies beside a model. */
export type ExternalFile = Uint8Array | ArrayBuffer

/**
 * The files in which a model keeps its weights, by the path that the model gives for them, relative to its folder; or what
 * finds them, asked once for each.
 */
export type ExternalData =
  | Readonly<Record<string, ExternalFile>>
  | ((path: string) => ExternalFile | undefined | Promise<ExternalFile | undefined>)

/** A tensor whose data is elsewhere, and what holds it, for errors. */
interface ExternalTensor {
  readonly tensor: TensorProto
  readonly where: string
}

/**
 * Puts the data that a model keeps in other files where the model refers to it. Nothing is copied, so the files must not be
 * changed until the model is loaded.
 *
 * @throws INVALID_FILE for a path that leads out of the model's folder, and for places that a file does not have;
 *   INVALID_ARGUMENT for a file that is not given. What a resolver throws is passed on as the cause.
 */
export async function readExternalData(model: ModelProto, files: ExternalData | undefined): Promise<void> {
  const tensors = externalTensors(model)
  // All paths are looked at before any file is asked for.
  const paths = tensors.map(({ tensor, where }) => checkPath(entry(tensor, 'location') ?? '', where))
  const opened = new Map<string, Uint8Array>()
  for (const [index, { tensor, where }] of tensors.entries()) {
    const path = paths[index]!
    const file = opened.get(path) ?? (await open(path, files, where))
    opened.set(path, file)
    tensor.rawData = slice(tensor, file, path, where)
    tensor.dataLocation = TensorProto_DataLocation.DEFAULT
    tensor.externalData = []
  }
}

function externalTensors({ graph, functions }: ModelProto): ExternalTensor[] {
  const found: ExternalTensor[] = []
  const visit = (tensor: TensorProto, where: string) => {
    if (tensor.dataLocation === TensorProto_DataLocation.EXTERNAL) found.push({ tensor, where })
  }
  const visitNode = (node: NodeProto) => {
    const label = node.name || node.opType
    for (const { name, t, tensors, g, graphs } of node.attribute) {
      for (const tensor of t ? [t, ...tensors] : tensors) visit(tensor, `attribute '${name}' of node ${label}`)
      for (const inner of g ? [g, ...graphs] : graphs) visitGraph(inner)
    }
  }
  const visitGraph = ({ initializer, node }: GraphProto) => {
    for (const tensor of initializer) visit(tensor, `initializer '${tensor.name}'`)
    for (const inner of node) visitNode(inner)
  }
  if (graph) visitGraph(graph)
  for (const { node } of functions) for (const inner of node) visitNode(inner)
  return found
}

function entry(tensor: TensorProto, key: string): string | undefined {
  return tensor.externalData.find((each) => each.key === key)?.value
}

/** Refuses a path that is not one of a file in the model's folder or below. */
function checkPath(path: string, where: string): string {
  const escapes =
    path === '' || /^([/\\]|[a-z]+:)/i.test(path) || path.split(/[/\\]/).includes('..') || hasControl(path)
  if (!escapes) return path
  throw invalidFile(
    `${where} keeps its data in '${printable(path)}', which is not a file in the model's folder.`,
    where,
  )
}

async function open(path: string, files: ExternalData | undefined, where: string): Promise<Uint8Array> {
  let file: ExternalFile | undefined
  try {
    file =
      typeof files === 'function' ? await files(path) : files && Object.hasOwn(files, path) ? files[path] : undefined
  } catch (cause) {
    throw missing(path, where, `, which cannot be read: ${reasonOf(cause)}`, cause)
  }
  if (file === undefined) throw missing(path, where, ', which is not given')
  const bytes = file instanceof Uint8Array ? file : ArrayBuffer.isView(file) ? undefined : asBytes(file)
  if (bytes) return bytes
  throw missing(path, where, ', for which something else than a Uint8Array or ArrayBuffer is given')
}

/** Also of an ArrayBuffer that comes from another realm, such as an iframe. */
function asBytes(file: unknown): Uint8Array | undefined {
  const isBuffer = Object.prototype.toString.call(file) === '[object ArrayBuffer]'
  return isBuffer ? new Uint8Array(file as ArrayBuffer) : undefined
}

function missing(path: string, where: string, reason: string, cause?: unknown): SparseAttentionError {
  return new SparseAttentionError('INVALID_ARGUMENT', {
    message: `${where} keeps its data outside the model, in '${path}'${reason}.`,
    fix: `Pass externalData with the bytes of '${path}', or save the model with all data inside one .onnx file.`,
    where: path,
    ...(cause === undefined ? {} : { cause }),
  })
}

/** The bytes of a file that are a tensor's. */
function slice(tensor: TensorProto, file: Uint8Array, path: string, where: string): Uint8Array<ArrayBuffer> {
  const needed = bytesOfTensor(tensor, where)
  const offset = byteCount(tensor, 'offset', where) ?? 0
  const length = byteCount(tensor, 'length', where) ?? needed
  if (length !== needed) {
    throw invalidFile(
      `${where} with dims [${tensor.dims}] needs ${needed} bytes, the model says that '${path}' has ${length}.`,
      where,
    )
  }
  if (offset + length > file.byteLength) {
    throw invalidFile(
      `${where} lies at bytes ${offset} to ${offset + length} of '${path}', which has ${file.byteLength}.`,
      where,
    )
  }
  return file.subarray(offset, offset + length) as Uint8Array<ArrayBuffer>
}

function byteCount(tensor: TensorProto, key: 'offset' | 'length', where: string): number | undefined {
  const text = entry(tensor, key)
  if (text === undefined) return undefined
  const number = Number(text)
  if (/^\d+$/.test(text) && Number.isSafeInteger(number)) return number
  throw invalidFile(`${where} has the ${key} '${printable(text)}' in its external data.`, where)
}

function hasControl(text: string): boolean {
  return [...text].some((character) => character.charCodeAt(0) < 32)
}

function printable(text: string): string {
  return [...text].map((character) => (character.charCodeAt(0) < 32 ? '\uFFFD' : character)).join('')
}
