import type { BenchInput, BenchTensors, Peer } from '@sparse-attention/compare'
import type { OwnedTensor, Runtime, Tensor } from '@sparse-attention/core'
import { loadOrt } from '@sparse-attention/onnxruntime/node'
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-web'
import { peerModel } from './peer-model.js'

/**
 * Loads onnxruntime-web's operator for a call of this kind.
 *
 * @throws whatever onnxruntime-web has to say; Error when it has no operator for it
 */
export async function openPeer(
  runtime: Runtime,
  input: BenchInput,
  tensors: BenchTensors,
  options: { readonly causal: boolean; readonly scale: number },
): Promise<Peer> {
  const model = peerModel(input, options)
  if (!model) throw new Error('onnxruntime has no operator for grouped heads without causality')
  const ort = await loadOrt(runtime, { provider: 'webgpu' })
  const { batch, kvHeads, keyLength, headDim, dtype } = input
  const dataType = dtype === 'f16' ? 'float16' : 'float32'
  const onGpu = (buffer: GPUBuffer, dims: readonly number[]): OrtTensor =>
    ort.Tensor.fromGpuBuffer(buffer as never, { dataType, dims }) as OrtTensor
  // Its memory is [batch, length, heads · head_dim].
  const tokens = ({ buffer, shape: [b, heads, length, d] }: Tensor) => onGpu(buffer, [b!, length!, heads! * d!])
  const feeds: Record<string, OrtTensor> = {
    query: tokens(tensors.q),
    key: tokens(tensors.k),
    value: tokens(tensors.v),
  }
  const fetches: Record<string, OrtTensor> = { output: tokens(tensors.out) }
  const cache: OwnedTensor[] = []
  if (model.operator === 'GroupQueryAttention') {
    feeds.seqlens_k = new ort.Tensor('int32', new Int32Array(batch).fill(keyLength - 1), [batch])
    feeds.total_sequence_length = new ort.Tensor('int32', Int32Array.of(keyLength), [1])
    // It always writes the cache of the next call.
    for (const name of ['present_key', 'present_value']) {
      const tensor = runtime.tensor(dtype, [batch, kvHeads, keyLength, headDim])
      cache.push(tensor)
      fetches[name] = onGpu(tensor.buffer, tensor.shape)
    }
  }
  // In Node, what Dawn has ready for wasm is delivered only when something else wakes the event loop.
  const tick = setInterval(() => {}, 1)
  const dispose = () => {
    clearInterval(tick)
    for (const tensor of cache) tensor.dispose()
  }
  try {
    const session = await ort.InferenceSession.create(model.bytes, {
      logSeverityLevel: 3,
      executionProviders: [{ name: 'webgpu', device: runtime.device }],
      preferredOutputLocation: 'gpu-buffer',
    } as InferenceSession.SessionOptions)
    return {
      operator: model.operator,
      call: async () => {
        await session.run(feeds, fetches)
      },
      [Symbol.asyncDispose]: () => session.release().finally(dispose),
    }
  } catch (error) {
    dispose()
    throw error
  }
}
