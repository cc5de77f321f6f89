import { floatsToHalves } from '@sparse-attention/core'
import type { AttentionInput, HostArray } from './attention-input.js'
import type { BenchInput } from './bench/input.js'

/** Made-up tensors, whose memory is [B, L, H, D], as [B, H, L, D]. */
export function attentionInputOf(input: BenchInput): AttentionInput {
  const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim, dtype } = input
  const swapped = (values: Float32Array, length: number, heads: number): HostArray => {
    const elements = new Float32Array(values.length)
    for (let b = 0; b < batch; b++) {
      for (let token = 0; token < length; token++) {
        for (let head = 0; head < heads; head++) {
          const from = ((b * length + token) * heads + head) * headDim
          elements.set(values.subarray(from, from + headDim), ((b * heads + head) * length + token) * headDim)
        }
      }
    }
    return { shape: [batch, heads, length, headDim], elements: dtype === 'f16' ? floatsToHalves(elements) : elements }
  }
  return {
    ...{ batch, queryHeads, kvHeads, queryLength, keyLength, headDim, dtype },
    q: swapped(input.q, queryLength, queryHeads),
    k: swapped(input.k, keyLength, kvHeads),
    v: swapped(input.v, keyLength, kvHeads),
  }
}
