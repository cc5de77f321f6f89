import { floatsToHalves, halvesToFloats } from '@sparse-attention/core'
import type { HostTensor, SafetensorsDType } from '../src/safetensors/index.js'

/** Numbers as a safetensors file holds them. */
export function hostTensor(dtype: SafetensorsDType, shape: number[], values: ArrayLike<number>): HostTensor {
  const elements = dtype === 'F16' ? floatsToHalves(values) : Float32Array.from(values)
  return { dtype, shape, bytes: new Uint8Array(elements.buffer) }
}

export function floats({ dtype, bytes }: HostTensor): Float32Array {
  const { buffer, byteOffset, byteLength } = bytes
  return dtype === 'F16'
    ? halvesToFloats(new Uint16Array(buffer, byteOffset, byteLength / 2))
    : new Float32Array(buffer, byteOffset, byteLength / 4)
}
