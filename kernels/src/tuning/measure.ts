import type { AttentionTensors, OwnedTensor, Runtime, SparseAttention } from '@sparse-attention/core'
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
      attend: await flashAttention(on, config, { variant }),
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
    tensor(dtype, [1, heads, length, headDim], randomValues(heads * length * headDim, seed))
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

/** Even in [-1, 1): a multiplicative congruential generator, so that everybody measures on equal numbers. */
function randomValues(count: number, seed: number): Float32Array {
  const values = new Float32Array(count)
  let state = seed
  for (let i = 0; i < count; i++) {
    state = Math.imul(state, 1664525) + 1013904223
    values[i] = state / 2 ** 31
  }
  return values
}

/** Milliseconds of a call, from the first submit to the end of the GPU's work; the mean of as many as are asked for. */
export async function timeCalls(
  runtime: Runtime,
  attention: SparseAttention,
  tensors: AttentionTensors,
  calls: number,
): Promise<number> {
  await runtime.idle()
  const start = performance.now()
  for (let call = 0; call < calls; call++) {
    for (const record of attention.encodeParts(tensors).parts) {
      const encoder = runtime.device.createCommandEncoder({ label: 'tuning' })
      record(encoder)
      runtime.device.queue.submit([encoder.finish()])
    }
  }
  await runtime.idle()
  return (performance.now() - start) / calls
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
