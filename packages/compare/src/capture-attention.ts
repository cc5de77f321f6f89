import {
  type AttentionShape,
  floatsToHalves,
  type Runtime,
  SparseAttentionError,
  type Tensor,
} from '@sparse-attention/core'
import type { AttentionInput, HostArray } from './attention-input.js'

/** What a model tells of an attention that has run: `AttentionEvent` of `@sparse-attention/onnxruntime`. */
export interface ObservedAttention {
  readonly node: {
    readonly layer: number
    readonly queryHeads: number
    readonly kvHeads: number
    readonly causal: boolean
    readonly scale: number | undefined
  }
  /** [B, Hq, Lq, D]; k and v [B, Hkv, Lk, D], of all keys. */
  readonly q: Tensor
  readonly k: Tensor
  readonly v: Tensor
}

export interface CapturedAttention extends AttentionInput {
  readonly causal: boolean
}

/**
 * Q, K and V of one attention of a model, as they are in a run, read back. A factor on QKᵀ other than 1/√D is in q.
 *
 * @param run runs the model once and calls `observe` after each attention, as `AttentionModel.run` does with `onAttention`
 * @throws INVALID_ARGUMENT for a layer that the run does not have; what `run` throws
 */
export async function captureAttention(
  runtime: Runtime,
  layer: number,
  run: (observe: (event: ObservedAttention) => Promise<void>) => Promise<unknown>,
): Promise<CapturedAttention> {
  let captured: CapturedAttention | undefined
  let layers = 0
  await run(async (event) => {
    layers = Math.max(layers, event.node.layer + 1)
    if (event.node.layer === layer) captured = await readEvent(runtime, event)
  })
  if (captured) return captured
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: `The run has no attention ${layer}.`,
    fix: layers > 0 ? `Use 0 to ${layers - 1}.` : 'Let the run call what it is given after each attention.',
    where: 'layer',
  })
}

async function readEvent(runtime: Runtime, { node, q, k, v }: ObservedAttention): Promise<CapturedAttention> {
  const [batch, queryHeads, queryLength, headDim] = q.shape as [number, number, number, number]
  const [, kvHeads, keyLength] = k.shape as [number, number, number]
  const shape: AttentionShape = { batch, queryHeads, kvHeads, queryLength, keyLength, headDim }
  const factor = (node.scale ?? 1 / Math.sqrt(headDim)) * Math.sqrt(headDim)
  const read = async (tensor: Tensor, times = 1): Promise<HostArray> => {
    const values = await runtime.read(tensor)
    // Within rounding it is the usual one, and q stays as it is, bit for bit.
    if (Math.abs(times - 1) > 1e-6) for (let i = 0; i < values.length; i++) values[i]! *= times
    return { shape: tensor.shape, elements: tensor.dtype === 'f16' ? floatsToHalves(values) : values }
  }
  return { ...shape, dtype: q.dtype, causal: node.causal, q: await read(q, factor), k: await read(k), v: await read(v) }
}
