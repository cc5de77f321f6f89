import { readdir, readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import type { Tensor } from 'onnxruntime-web'
import type { Harness } from './harness.js'

// Models exported from transformers with random weights: exports/README.md says how.
const folder = new URL('exports/', import.meta.url)
const ending = '.onnx.gz'

/** Names of the exported models: architecture, attention, exporter and operator set. */
export async function exportNames(): Promise<string[]> {
  const files = await readdir(folder)
  return files.filter((file) => file.endsWith(ending)).map((file) => file.slice(0, -ending.length))
}

/** The bytes of one of the models. */
export async function readGraphFile(name: string): Promise<Uint8Array> {
  return new Uint8Array(await promisify(gunzip)(await readFile(new URL(`${name}${ending}`, folder))))
}

export interface Export {
  readonly bytes: Uint8Array
  readonly feeds: Record<string, Tensor>
  /** What PyTorch computed. */
  readonly outputs: Record<string, Tensor>
}

export async function readExport({ ort }: Pick<Harness, 'ort'>, name: string): Promise<Export> {
  const [bytes, tensors] = await Promise.all([readGraphFile(name), readFile(new URL(`${name}.safetensors`, folder))])
  const headerSize = Number(tensors.readBigUInt64LE(0))
  const header = JSON.parse(tensors.toString('utf8', 8, 8 + headerSize)) as Record<string, Entry>
  const read: Record<'input' | 'output', Record<string, Tensor>> = { input: {}, output: {} }
  for (const [
    key,
    {
      dtype,
      shape,
      data_offsets: [start, end],
    },
  ] of Object.entries(header)) {
    const [, kind, value] = /^(input|output)\.(.+)$/.exec(key) as unknown as [string, 'input' | 'output', string]
    const data = new Uint8Array(tensors.subarray(8 + headerSize + start, 8 + headerSize + end)).buffer
    read[kind][value] =
      dtype === 'F32'
        ? new ort.Tensor('float32', new Float32Array(data), shape)
        : new ort.Tensor('int64', new BigInt64Array(data), shape)
  }
  return { bytes: new Uint8Array(bytes), feeds: read.input, outputs: read.output }
}

interface Entry {
  readonly dtype: 'F32' | 'I64'
  readonly shape: number[]
  readonly data_offsets: [number, number]
}
