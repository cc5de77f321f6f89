import {
  bytesPerElement,
  type ConfiguredMethod,
  type DType,
  type Plan,
  type Runtime,
  type SparseAttention,
  SparseAttentionError,
  type Tensor,
  tensorView,
} from '@sparse-attention/core'
import { dense } from '@sparse-attention/kernels'
import type { Tensor as OrtTensor } from 'onnxruntime-web'
import type { AttentionNode } from './attention-node.js'
import type { BufferPool } from './buffer-pool.js'
import type { CutAttention } from './cut.js'
import { cannotCut } from './errors.js'

/** One method, or one for calls of many tokens and another for calls of one token. */
export type AttentionMethod =
  | ConfiguredMethod
  | { readonly prefill: ConfiguredMethod; readonly decode: ConfiguredMethod }

/** What `onAttention` is told. Everything in it is valid until the promise that it returns resolves. */
export interface AttentionEvent {
  readonly node: AttentionNode
  /** Id of the method that ran. */
  readonly method: string
  /** [batch, query_heads, query_length, head_dim], strided; k and v likewise with KV heads and key_length. */
  readonly q: Tensor
  readonly k: Tensor
  readonly v: Tensor
  readonly out: Tensor
  /** [batch, query_heads, query_length] f32, natural log. */
  readonly lse: Tensor
  readonly plan: Plan
  /** Wall time of planning and attention, the GPU idle before and after. */
  readonly attentionMs: number
}

export interface AttentionCall {
  readonly tensors: Readonly<Record<'q' | 'k' | 'v', OrtTensor>>
  /** What the model says key_length is, when it does. */
  readonly keyLength: number | undefined
  readonly pool: BufferPool
  readonly signal: AbortSignal | undefined
  readonly onAttention: ((event: AttentionEvent) => void | Promise<void>) | undefined
}

export interface AttentionOutput {
  /** From the pool. */
  readonly buffer: GPUBuffer
  readonly dtype: DType
  /** [batch, query_length, query_heads · head_dim] */
  readonly dims: readonly [number, number, number]
}

/** An attention of the model that a method computes. */
export class ReplacedAttention {
  readonly prefill: ConfiguredMethod
  readonly decode: ConfiguredMethod
  #compiled: { readonly prefill: SparseAttention; readonly decode: SparseAttention } | undefined
  #headDim: number | undefined

  constructor(
    private readonly runtime: Runtime,
    readonly cut: CutAttention,
    method: AttentionMethod,
  ) {
    const given = 'method' in method ? { prefill: method, decode: method } : method
    // A method for one kind of call leaves the other to exact attention.
    this.prefill = given.prefill.method.capabilities.queryLength === 'one' ? dense() : given.prefill
    this.decode = given.decode.method.capabilities.queryLength === 'many' ? dense() : given.decode
  }

  get node(): AttentionNode {
    const { node } = this.cut.found
    return this.#headDim === undefined ? node : { ...node, headDim: this.#headDim }
  }

  /** Compiles for a head dim, which may be known before the first call. */
  async prepare(headDim: number, dtype: DType): Promise<void> {
    await this.#compile(headDim, dtype)
  }

  async #compile(headDim: number, dtype: DType): Promise<{ prefill: SparseAttention; decode: SparseAttention }> {
    const known = this.#compiled
    // Another head dim or dtype than compiled for is refused by the attention itself.
    if (known) return known
    const { queryHeads, kvHeads, causal, scale } = this.cut.found.node
    const config = { queryHeads, kvHeads, headDim, dtype, causal, ...(scale === undefined ? {} : { scale }) }
    const prefill = await this.runtime.use(this.prefill, config)
    try {
      const decode = this.decode === this.prefill ? prefill : await this.runtime.use(this.decode, config)
      this.#headDim = headDim
      this.#compiled = { prefill, decode }
      return this.#compiled
    } catch (error) {
      prefill.dispose()
      throw error
    }
  }

  /**
   * Attends. The tensors are read; the output's buffer is taken from the pool.
   *
   * @throws UNSUPPORTED, INVALID_SHAPE naming the node, and what the method throws
   */
  async run({ tensors, keyLength, pool, signal, onAttention }: AttentionCall): Promise<AttentionOutput> {
    const { node } = this.cut.found
    const shape = callShape(this.cut, tensors, keyLength)
    const { batch, queryLength, headDim } = shape
    const { prefill, decode } = await this.#compile(headDim, shape.dtype)
    const attention = queryLength === 1 ? decode : prefill
    const taken: GPUBuffer[] = []
    const take = (sizeBytes: number) => {
      const buffer = pool.take(sizeBytes)
      taken.push(buffer)
      return buffer
    }
    const dims = [batch, queryLength, node.queryHeads * headDim] as const
    const sizeBytes = batch * queryLength * node.queryHeads * headDim * bytesPerElement[shape.dtype]
    const buffer = pool.take(sizeBytes)
    try {
      const view = (part: 'q' | 'k' | 'v') =>
        viewHeads(this.#onGpu(tensors[part], take), shape.dtype, tensors[part].dims, headDim)
      const call = {
        q: view('q'),
        k: view('k'),
        v: view('v'),
        out: viewHeads(buffer, shape.dtype, dims, headDim),
        lse: tensorView(take(batch * node.queryHeads * queryLength * 4), 'f32', [batch, node.queryHeads, queryLength]),
      }
      if (onAttention) await this.runtime.idle()
      const start = performance.now()
      const { plan } = await attention.run(
        { ...call, context: { layer: node.layer } },
        signal === undefined ? {} : { signal },
      )
      if (onAttention) {
        await this.runtime.idle()
        const attentionMs = performance.now() - start
        await onAttention({ node: this.node, method: attention.id, ...call, plan, attentionMs })
      }
      return { buffer, dtype: shape.dtype, dims }
    } catch (error) {
      pool.give(buffer)
      throw error
    } finally {
      for (const each of taken) pool.give(each)
    }
  }

  /** The tensor's buffer; what lies on the CPU is uploaded. */
  #onGpu(tensor: OrtTensor, take: (sizeBytes: number) => GPUBuffer): GPUBuffer {
    if (tensor.location === 'gpu-buffer') return tensor.gpuBuffer as unknown as GPUBuffer
    const data = tensor.data as unknown as ArrayBufferView<ArrayBuffer>
    const buffer = take(data.byteLength)
    this.runtime.device.queue.writeBuffer(buffer, 0, data.buffer, data.byteOffset, data.byteLength)
    return buffer
  }

  dispose(): void {
    this.#compiled?.prefill.dispose()
    this.#compiled?.decode.dispose()
    this.#compiled = undefined
  }
}

interface CallShape {
  readonly batch: number
  readonly queryLength: number
  readonly headDim: number
  readonly dtype: DType
}

/** onnxruntime-web's type of a tensor as ours. */
export function dtypeOf(type: string, node: string): DType {
  if (type === 'float32') return 'f32'
  if (type === 'float16') return 'f16'
  throw cannotCut(node, `its tensors are ${type}, only float32 and float16 are supported`)
}

/** Checks the tensors of one call against the node and each other. */
function callShape(cut: CutAttention, { q, k, v }: AttentionCall['tensors'], keyLength: number | undefined): CallShape {
  const { node, args } = cut.found
  const dtype = dtypeOf(q.type, node.name)
  // A bias is for keys of three axes, and added to others it would come out wrong.
  const raw = args.pastKey === '' && args.presentKey === ''
  for (const [part, { dims }, heads] of [
    ['query', q, node.queryHeads],
    ['key', k, node.kvHeads],
    ['value', v, node.kvHeads],
  ] as const) {
    const threeAxes = dims.length === 3 && dims[2]! % heads === 0
    const fourAxes = dims.length === 4 && dims[1] === heads && part !== 'query' && !(args.bias !== '' && raw)
    if (dims.includes(0) || !(threeAxes || fourAxes)) {
      throw new SparseAttentionError('INVALID_SHAPE', {
        message: `The ${part} of node ${node.name} has the shape [${dims}] with ${heads} heads.`,
        fix: `Feed inputs that give it [batch, length, ${heads} · head_dim] with every size at least 1.`,
        where: node.name,
      })
    }
  }
  const [batch, queryLength, width] = q.dims as readonly [number, number, number]
  const keys = k.dims[k.dims.length === 3 ? 1 : 2]!
  if (keyLength !== undefined && keys !== keyLength) {
    throw cannotCut(
      node.name,
      `its past and new keys are ${keys} together, but total_sequence_length is ${keyLength}; a past that is longer than ` +
        'what it holds is not supported',
    )
  }
  // Without a past, onnxruntime's providers disagree on which keys the first query sees.
  if (node.opType === 'MultiHeadAttention' && node.causal && args.pastKey === '' && keys !== queryLength) {
    throw cannotCut(node.name, `it is unidirectional with ${queryLength} queries and ${keys} keys, but without a past`)
  }
  return { batch, queryLength, headDim: width / node.queryHeads, dtype }
}

/** [batch, length, heads · D] or [batch, heads, length, D] memory as [batch, heads, length, D]. */
function viewHeads(buffer: GPUBuffer, dtype: DType, dims: readonly number[], headDim: number): Tensor {
  if (dims.length === 4) return tensorView(buffer, dtype, dims)
  const [batch, length, width] = dims as readonly [number, number, number]
  return tensorView(buffer, dtype, [batch, width / headDim, length, headDim], {
    strides: [length * width, headDim, width, 1],
  })
}
