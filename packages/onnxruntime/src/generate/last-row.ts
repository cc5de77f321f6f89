import { halvesToFloats, type Runtime } from '@sparse-attention/core'
import type { Tensor } from 'onnxruntime-web'

/** The last row of [1, rows, width] f32 or f16, as f32. Of a tensor on the GPU only that row is read back. */
export async function lastRow(runtime: Runtime, tensor: Tensor): Promise<Float32Array> {
  const width = tensor.dims.at(-1)!
  const first = tensor.dims.reduce((product, dim) => product * dim, 1) - width
  const half = tensor.type === 'float16'
  if (tensor.location !== 'gpu-buffer') {
    // A copy: the tensor's memory may be onnxruntime-web's. Halves are bits, or numbers where the engine has such arrays.
    const row = (tensor.data as Float32Array | Uint16Array).slice(first, first + width)
    return row instanceof Uint16Array ? halvesToFloats(row) : Float32Array.from(row)
  }
  const elementBytes = half ? 2 : 4
  // Of half precision, a row may begin and end in the middle of a word.
  const start = Math.floor((first * elementBytes) / 4) * 4
  const end = Math.ceil(((first + width) * elementBytes) / 4) * 4
  const buffer = tensor.gpuBuffer as unknown as GPUBuffer
  const bytes = await runtime.readBytes({ buffer, offsetBytes: start, sizeBytes: end - start })
  if (!half) return new Float32Array(bytes)
  const skipped = first - start / 2
  return halvesToFloats(new Uint16Array(bytes).subarray(skipped, skipped + width))
}
