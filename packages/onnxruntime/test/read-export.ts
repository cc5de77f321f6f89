import { readdir, readFile } from 'node:fs/promises'
import type { Tensor } from 'onnxruntime-web'
import type { Harness } from './harness.js'

// Models exported from transformers with random weights: exports/README.md says how.
const folder = new URL('exports/', import.meta.url)

/** Names of the exported models: architecture, attention, exporter and operator set. */
export async function exportNames(): Promise<string[]> {
  const files = await readdir(folder)
  return files.filter((file) => file.endsWith('.onnx')).map((file) => file.slice(0, -'.onnx'.length))
}

export interface Export {
  readonly bytes: Uint8Array
  readonly feeds: Record<string, Tensor>
  /** What PyTorch computed. */
  readonly outputs: Record<string, Tensor>
}

export async function readExport({ ort }: Pick<Harness, 'ort'>, name: string): Promise<Export> {
  const file = (ending: string) => readFile(new URL(`${name}.${ending}`, folder))
  const [bytes, tensors] = await Promise.all([file('onnx'), file('safetensors')])
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
