import {
  type AttentionTensors,
  type DType,
  floatsToHalves,
  type OwnedTensor,
  type Runtime,
  type SparseAttention,
} from '@sparse-attention/core'
import { dense } from '../dense/method.js'
import { flashAttention } from '../flash-attention/flash-attention.js'
import type { FlashCall } from '../flash-attention/variants.js'
import type { ChosenVariant } from './choose-variant.js'

/** Tokens, and heads, of a call to measure. */
export interface CallShape {
  readonly queryHeads: number
  readonly kvHeads: number
  readonly queryLength: number
  readonly keyLength: number
}

/** Dense attention by one variant, through all that a user's call goes through. */
export function variantAttention(
  runtime: Runtime,
  call: FlashCall,
  { queryHeads, kvHeads }: Pick<CallShape, 'queryHeads' | 'kvHeads'>,
  variant: ChosenVariant,
): Promise<SparseAttention> {
  const { dtype, headDim, causal } = call
  const { definition } = dense
  const method = {
    ...definition,
    create: async (on: Runtime, config: Parameters<typeof flashAttention>[1]) => ({
      plan: () => ({ plan: { kind: 'dense' } as const, dispatches: [] }),
      attend: await flashAttention(on, config, { variant, denseOnly: true }),
      dispose() {},
    }),
  }
  return runtime.use({ method, options: dense().options }, { queryHeads, kvHeads, headDim, dtype, causal })
}

/** All tensors of a call, outputs too, with values that repeat from call to call. */
export interface OwnedTensors extends AttentionTensors, Disposable {
  readonly out: OwnedTensor
  readonly lse: OwnedTensor
}

export function makeTensors(runtime: Runtime, { headDim, dtype }: FlashCall, shape: CallShape): OwnedTensors {
  const { queryHeads, kvHeads, queryLength, keyLength } = shape
  const made: OwnedTensor[] = []
  const tensor = (...args: Parameters<Runtime['tensor']>) => {
    const one = runtime.tensor(...args)
    made.push(one)
    return one
  }
  const random = (heads: number, length: number, seed: number) =>
    tensor(dtype, [1, heads, length, headDim], randomValues(dtype, heads * length * headDim, seed))
  try {
    return {
      q: random(queryHeads, queryLength, 1),
      k: random(kvHeads, keyLength, 2),
      v: random(kvHeads, keyLength, 3),
      out: tensor(dtype, [1, queryHeads, queryLength, headDim]),
      lse: tensor('f32', [1, queryHeads, queryLength]),
      [Symbol.dispose]: () => {
        for (const one of made) one.dispose()
      },
    }
  } catch (error) {
    for (const one of made) one.dispose()
    throw error
  }
}

/** A prime: no row of one head lies where the same row of another does. */
const PERIOD = 65521

/** Even in [-1, 1), from a congruential generator, repeated: as fast as memory allows, for the GPU idles meanwhile. */
function randomValues(dtype: DType, count: number, seed: number): Float32Array | Uint16Array {
  const floats = new Float32Array(Math.min(count, PERIOD))
  let state = seed
  for (let i = 0; i < floats.length; i++) {
    state = Math.imul(state, 1664525) + 1013904223
    floats[i] = state / 2 ** 31
  }
  const values = dtype === 'f16' ? new Uint16Array(count) : new Float32Array(count)
  const period = dtype === 'f16' ? floatsToHalves(floats) : floats
  for (let at = 0; at < count; at += PERIOD) values.set(period.subarray(0, count - at), at)
  return values
}

/** One sample: as many calls of an attention, of which the mean counts. */
export interface Sample {
  readonly attention: SparseAttention
  readonly tensors: AttentionTensors
  readonly calls: number
}

/**
 * Milliseconds a call of each sample, from the first submit to the end of the GPU's work, one after the other.
 *
 * @param together  leave no pause between samples, where the GPU has a clock to tell them apart: its frequency falls in pauses
 */
export async function timeSamples(runtime: Runtime, samples: readonly Sample[], together: boolean): Promise<number[]> {
  if (together && runtime.device.features.has('timestamp-query')) return timeOnGpu(runtime, samples)
  const ms: number[] = []
  for (const sample of samples) {
    await runtime.idle()
    const start = performance.now()
    submitCalls(runtime, sample, () => ({}))
    await runtime.idle()
    ms.push((performance.now() - start) / sample.calls)
  }
  return ms
}

async function timeOnGpu(runtime: Runtime, samples: readonly Sample[]): Promise<number[]> {
  const { device } = runtime
  const count = 2 * samples.length
  const querySet = device.createQuerySet({ type: 'timestamp', count })
  // QUERY_RESOLVE, COPY_SRC; the global may be absent in Node
  const resolved = device.createBuffer({ label: 'timestamps', size: 8 * count, usage: 0x0200 | 0x0004 })
  try {
    for (const [i, sample] of samples.entries()) {
      let first = true
      submitCalls(runtime, sample, () => {
        // Every pass writes the end; the last one to do so is the end of all.
        const writes = { querySet, ...(first && { beginningOfPassWriteIndex: 2 * i }), endOfPassWriteIndex: 2 * i + 1 }
        first = false
        return { timestampWrites: writes }
      })
    }
    const encoder = device.createCommandEncoder()
    encoder.resolveQuerySet(querySet, 0, count, resolved, 0)
    device.queue.submit([encoder.finish()])
    const bytes = await runtime.readBytes({ buffer: resolved, offsetBytes: 0, sizeBytes: 8 * count })
    const nanoseconds = new BigUint64Array(bytes)
    return samples.map(({ calls }, i) => Number(nanoseconds[2 * i + 1]! - nanoseconds[2 * i]!) / 1e6 / calls)
  } finally {
    querySet.destroy()
    resolved.destroy()
  }
}

/** @param pass  what to add to the description of each pass */
function submitCalls(
  { device }: Runtime,
  { attention, tensors, calls }: Sample,
  pass: () => GPUComputePassDescriptor,
): void {
  for (let call = 0; call < calls; call++) {
    for (const record of attention.encodeParts(tensors).parts) {
      const encoder = device.createCommandEncoder({ label: 'tuning' })
      record(withPasses(encoder, pass))
      device.queue.submit([encoder.finish()])
    }
  }
}

/** The encoder, with something added to the description of each compute pass that is begun on it. */
function withPasses(encoder: GPUCommandEncoder, pass: () => GPUComputePassDescriptor): GPUCommandEncoder {
  return new Proxy(encoder, {
    get(target, name) {
      if (name === 'beginComputePass') {
        return (descriptor?: GPUComputePassDescriptor) => target.beginComputePass({ ...descriptor, ...pass() })
      }
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

/** What a variant computes in one call, to be compared with another's. */
export async function answerOf(
  runtime: Runtime,
  attention: SparseAttention,
  tensors: OwnedTensors,
): Promise<{ readonly out: Float32Array; readonly lse: Float32Array }> {
  await attention.run(tensors)
  return { out: await runtime.read(tensors.out), lse: await runtime.read(tensors.lse) }
}
