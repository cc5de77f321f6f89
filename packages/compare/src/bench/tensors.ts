import { type DType, type OwnedTensor, permute, type Runtime, type Tensor } from '@sparse-attention/core'
import type { BenchInput } from './input.js'

/**
 * The tensors of one call on the device, as [B, H, L, D] views of memory in the order [B, L, H, D]: the order in which
 * onnxruntime's operators want them, so that everyone reads the same buffers.
 */
export interface BenchTensors extends Disposable {
  readonly q: Tensor
  readonly k: Tensor
  readonly v: Tensor
  readonly out: Tensor
  readonly lse: Tensor
}

export function uploadInput(runtime: Runtime, input: BenchInput): BenchTensors {
  const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim, dtype } = input
  const owned: OwnedTensor[] = []
  const make = (type: DType, shape: readonly number[], data?: Float32Array): OwnedTensor => {
    const tensor = runtime.tensor(type, shape, data)
    owned.push(tensor)
    return tensor
  }
  const dispose = () => {
    for (const tensor of owned) tensor.dispose()
  }
  try {
    const swapped = (length: number, heads: number, data?: Float32Array) =>
      permute(make(dtype, [batch, length, heads, headDim], data), [0, 2, 1, 3])
    return {
      q: swapped(queryLength, queryHeads, input.q),
      k: swapped(keyLength, kvHeads, input.k),
      v: swapped(keyLength, kvHeads, input.v),
      out: swapped(queryLength, queryHeads),
      lse: make('f32', [batch, queryHeads, queryLength]),
      [Symbol.dispose]: dispose,
    }
  } catch (error) {
    dispose()
    throw error
  }
}
