import { type AttentionShape, type DType, SparseAttentionError } from '@sparse-attention/core'
import type { ByteSource } from './safetensors/byte-source.js'
import { openSafetensors, type SafetensorsReader } from './safetensors/read.js'

/** Q, K and V of one attention call, on the host. */
export interface AttentionInput extends AttentionShape {
  readonly dtype: DType
  readonly q: HostArray
  readonly k: HostArray
  readonly v: HostArray
}

export interface HostArray {
  readonly shape: readonly number[]
  /** `Uint16Array`: f16 bits. */
  readonly elements: Float32Array | Uint16Array
}

const dtypes: Readonly<Record<string, DType>> = { F32: 'f32', F16: 'f16' }

/**
 * Reads `q [B,H,Lq,D]` and `k`, `v [B,Hkv,Lkv,D]` of a safetensors file and checks that they belong together: everything that
 * can be said before a device is opened.
 *
 * @throws INVALID_FILE, INVALID_SHAPE, INVALID_DTYPE, naming file and tensor
 */
export async function readAttentionInput(source: ByteSource): Promise<AttentionInput> {
  const reader = await openSafetensors(source)
  const dtype = sharedDType(source.name, reader)
  const shape = sharedShape(source.name, reader)
  const read = (name: string) => readArray(source.name, reader, name, dtype)
  return { ...shape, dtype, q: await read('q'), k: await read('k'), v: await read('v') }
}

function sharedDType(path: string, reader: SafetensorsReader): DType {
  const found = ['q', 'k', 'v'].map((name) => reader.entry(name).dtype)
  const dtype = dtypes[found[0]!]
  if (dtype !== undefined && found.every((other) => other === found[0])) return dtype
  throw new SparseAttentionError('INVALID_DTYPE', {
    message: `In ${path} q, k and v are ${found.join(', ')}.`,
    fix: 'Save all three as F32, or all three as F16.',
    where: path,
  })
}

function sharedShape(path: string, reader: SafetensorsReader): Omit<AttentionInput, 'dtype' | 'q' | 'k' | 'v'> {
  const q = reader.entry('q').shape
  const k = reader.entry('k').shape
  const v = reader.entry('v').shape
  const refuse = (problem: string): SparseAttentionError =>
    new SparseAttentionError('INVALID_SHAPE', {
      message: `In ${path} ${problem}: q has shape [${q}], k [${k}], v [${v}].`,
      fix: 'Save q as [B, H, Lq, D] and k, v as [B, Hkv, Lkv, D], where Hkv divides H.',
      where: path,
    })
  if (q.length !== 4 || k.length !== 4 || v.length !== 4) throw refuse('q, k and v need four axes')
  if ([...q, ...k, ...v].includes(0)) throw refuse('an axis is empty')
  const [batch, queryHeads, queryLength, headDim] = q as [number, number, number, number]
  const [kvBatch, kvHeads, keyLength, keyDim] = k as [number, number, number, number]
  if (k.some((size, axis) => size !== v[axis])) throw refuse('k and v differ')
  if (batch !== kvBatch) throw refuse('the batch sizes differ')
  if (headDim !== keyDim) throw refuse('the head dims differ')
  if (queryHeads % kvHeads !== 0) throw refuse(`${kvHeads} KV heads do not divide ${queryHeads} query heads`)
  return { batch, queryHeads, kvHeads, queryLength, keyLength, headDim }
}

async function readArray(path: string, reader: SafetensorsReader, name: string, dtype: DType): Promise<HostArray> {
  const { shape, bytes } = await reader.read(name)
  const elements =
    dtype === 'f16'
      ? new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2)
      : new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
  const bad = elements instanceof Uint16Array ? firstInfiniteHalf(elements) : firstInfinite(elements)
  if (bad < 0) return { shape, elements }
  // WGSL may assume that there are none, so what would come out is anyone's guess.
  throw new SparseAttentionError('INVALID_FILE', {
    message: `In ${path} element ${bad} of ${name} is infinite or not a number.`,
    fix: 'Save finite tensors.',
    where: name,
  })
}

function firstInfinite(values: Float32Array): number {
  return values.findIndex((value) => !Number.isFinite(value))
}

function firstInfiniteHalf(halves: Uint16Array): number {
  return halves.findIndex((bits) => (bits & 0x7c00) === 0x7c00)
}
