import {
  type AttentionConfig,
  type AttentionContext,
  type AttentionShape,
  type AttentionState,
  type DType,
  denseMask,
  type HostPlan,
  type MethodFactory,
  type MethodOptions,
  type OwnedTensor,
  type Plan,
  type Runtime,
  type SparseAttention,
  type Tensor,
} from '@sparse-attention/core'
import type { Inputs } from '../inputs.js'
import { type GuardedTensor, guardedLse, guardedTensor, type Layout, uploadTensor } from '../tensors.js'
import { trackBuffers } from '../track-buffers.js'
import type { Call } from './cases.js'

/** A call of an attention, with everything read back after it. */
export interface Attended {
  /** [B, Hq, Lq, D] */
  readonly out: Float32Array
  /** [B, Hq, Lq]; absent when the call did not ask for it */
  readonly lse?: Float32Array
  /** What was selected. */
  readonly plan: HostPlan
  readonly path: 'sparse' | 'dense'
  /** u8[B, Hq, Lq, Lk], causality included */
  readonly mask: Uint8Array
  /** Calls of `mapAsync` between the start of the call and its end. */
  readonly readBacks: number
}

export interface AttendOptions {
  readonly dtype: DType
  readonly shape: AttentionShape
  readonly inputs: Inputs
  readonly layout?: Layout
  readonly call?: Call
  readonly context?: AttentionContext
  /** Default: the attention's own, for a method that carries one. */
  readonly state?: AttentionState
  /** Attend over this plan. */
  readonly plan?: Plan
  /** Receives the plan before it is read, to clone it. */
  readonly onPlan?: (plan: Plan) => void
}

/** Uploads, calls, reads everything back and frees it. */
export async function attend(
  runtime: Runtime,
  attention: SparseAttention,
  { dtype, shape, inputs, layout = 'BHLD', call = 'run', context, state, plan: given, onPlan }: AttendOptions,
): Promise<Attended> {
  const { batch, queryHeads, kvHeads, queryLength, keyLength, headDim } = shape
  const owned: OwnedTensor[] = []
  const own = <T extends OwnedTensor>(tensor: T): T => {
    owned.push(tensor)
    return tensor
  }
  try {
    const keyShape = [batch, kvHeads, keyLength, headDim] as const
    const queryShape = [batch, queryHeads, queryLength, headDim] as const
    const rowShape = [batch, queryHeads, queryLength] as const
    const tensors = {
      q: own(uploadTensor(runtime, dtype, queryShape, inputs.q, layout)),
      k: own(uploadTensor(runtime, dtype, keyShape, inputs.k, layout)),
      v: own(uploadTensor(runtime, dtype, keyShape, inputs.v, layout)),
      ...(context && { context }),
      ...(state && { state }),
    }
    const guards: GuardedTensor[] = []
    const guard = (tensor: GuardedTensor): GuardedTensor => {
      guards.push(own(tensor))
      return tensor
    }
    const options = given && { plan: given }
    using buffers = trackBuffers(runtime.device)
    let result: { out: Tensor; lse?: Tensor; plan: Plan }
    switch (call) {
      case 'run': {
        result = await attention.run(tensors, options)
        owned.push(result.out as OwnedTensor, result.lse as OwnedTensor)
        break
      }
      case 'run-into': {
        const out = guard(guardedTensor(runtime, dtype, queryShape, layout))
        const lse = guard(guardedLse(runtime, rowShape))
        result = await attention.run({ ...tensors, out, lse }, options)
        break
      }
      case 'encode': {
        const out = guard(guardedTensor(runtime, dtype, queryShape, layout))
        const lse = guard(guardedLse(runtime, rowShape))
        const encoder = runtime.device.createCommandEncoder()
        const plan = attention.encode(encoder, { ...tensors, out, lse }, options)
        runtime.device.queue.submit([encoder.finish()])
        result = { out, lse, plan }
        break
      }
      case 'parts': {
        const out = guard(guardedTensor(runtime, dtype, queryShape, layout))
        const { plan, parts } = attention.encodeParts({ ...tensors, out }, options)
        for (const part of parts) {
          const encoder = runtime.device.createCommandEncoder()
          part(encoder)
          runtime.device.queue.submit([encoder.finish()])
        }
        result = { out, plan }
        break
      }
    }
    const readBacks = buffers.maps
    onPlan?.(result.plan)
    const plan = await result.plan.read()
    const answer = {
      out: await runtime.read(result.out),
      ...(result.lse && { lse: await runtime.read(result.lse) }),
      plan,
      path: result.plan.path,
      mask: denseMask(plan),
      readBacks,
    }
    for (const tensor of guards) {
      const damaged = await tensor.damaged()
      if (damaged > 0)
        throw new Error(`${damaged} elements around a ${tensor.shape.length}-axis output were overwritten`)
    }
    return answer
  } finally {
    for (const tensor of owned) tensor.dispose()
  }
}

/** Makes an attention, uses it and disposes of it. */
export async function withAttention<Options extends MethodOptions, T>(
  runtime: Runtime,
  factory: MethodFactory<Options>,
  options: Partial<Options>,
  config: AttentionConfig,
  use: (attention: SparseAttention) => Promise<T>,
): Promise<T> {
  using attention = await runtime.use(factory(options), config)
  return await use(attention)
}
