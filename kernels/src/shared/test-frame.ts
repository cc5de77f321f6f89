import type {
  AttentionFrame,
  AttentionShape,
  BufferSlice,
  Dispatch,
  DType,
  OwnedTensor,
  Runtime,
} from '@sparse-attention/core'
import type { Inputs } from '@sparse-attention/testing'

/** Tensors of a test on the GPU, as a method's program would get them. Free with `dispose`. */
export interface TestFrame extends Disposable {
  readonly frame: AttentionFrame
  /** Zeroed f32 memory of a shape. */
  memory(shape: readonly number[], values?: Float32Array): BufferSlice & { readonly tensor: OwnedTensor }
  /** Submits dispatches and waits. */
  submit(dispatches: readonly Dispatch[]): Promise<void>
  floats(slice: BufferSlice): Promise<Float32Array>
  words(slice: BufferSlice): Promise<Uint32Array>
}

export interface TestFrameOptions {
  readonly dtype: DType
  readonly causal: boolean
  readonly scale: number
  /** Given: k and v are pools [1, Hkv, poolRows, D] that all sequences share. */
  readonly poolRows?: number
}

export function testFrame(
  runtime: Runtime,
  shape: AttentionShape,
  { q, k, v }: Inputs,
  { dtype, causal, scale, poolRows }: TestFrameOptions,
): TestFrame {
  const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim } = shape
  const owned: OwnedTensor[] = []
  const tensor = (type: DType, axes: readonly number[], values?: ArrayLike<number>) => {
    const made = runtime.tensor(type, axes, values && Float32Array.from(values))
    owned.push(made)
    return made
  }
  const memory: TestFrame['memory'] = (axes, values) => {
    const made = tensor('f32', axes, values)
    return { buffer: made.buffer, offsetBytes: 0, sizeBytes: made.buffer.size, tensor: made }
  }
  const keyShape = poolRows === undefined ? [batch, kvHeads, keyLength, headDim] : [1, kvHeads, poolRows, headDim]
  const bytes = (sizeBytes: number) => memory([Math.ceil(sizeBytes / 4)])
  return {
    frame: {
      ...shape,
      causal,
      scale,
      context: {},
      q: tensor(dtype, [batch, queryHeads, queryLength, headDim], q),
      k: tensor(dtype, keyShape, k),
      v: tensor(dtype, keyShape, v),
      out: tensor(dtype, [batch, queryHeads, queryLength, headDim]),
      lse: tensor('f32', [batch, queryHeads, queryLength]),
      scratch: bytes,
      planBuffer: bytes,
    },
    memory,
    submit: (dispatches) => submitDispatches(runtime, dispatches),
    floats: async (slice) => new Float32Array(await runtime.readBytes(slice)),
    words: async (slice) => new Uint32Array(await runtime.readBytes(slice)),
    [Symbol.dispose]() {
      for (const made of owned) made.dispose()
    },
  }
}

/** Submits dispatches in one pass and waits. */
export async function submitDispatches(runtime: Runtime, dispatches: readonly Dispatch[]): Promise<void> {
  const encoder = runtime.device.createCommandEncoder()
  const pass = encoder.beginComputePass()
  runtime.device.pushErrorScope('validation')
  for (const { kernel, bindings, workgroups } of dispatches) {
    const entries = bindings.map(({ buffer, offsetBytes, sizeBytes }, binding) => ({
      binding,
      resource: { buffer, offset: offsetBytes, size: sizeBytes },
    }))
    pass.setPipeline(kernel.pipeline)
    pass.setBindGroup(0, runtime.device.createBindGroup({ layout: kernel.bindGroupLayout, entries }))
    if ('indirect' in workgroups) {
      pass.dispatchWorkgroupsIndirect(workgroups.indirect.buffer, workgroups.indirect.offsetBytes)
    } else pass.dispatchWorkgroups(...workgroups)
  }
  pass.end()
  runtime.device.queue.submit([encoder.finish()])
  const error = await runtime.device.popErrorScope()
  if (error) throw new Error(error.message)
  await runtime.idle()
}

/** The largest difference of two equally long lists of numbers. */
export function largestDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length < expected.length || expected.length === 0) throw new Error('nothing to compare')
  let largest = 0
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!)
    if (!(difference <= largest)) largest = difference
  }
  return largest
}
