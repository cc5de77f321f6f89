import {
  type AttentionContext,
  type BufferSlice,
  bytesPerElement,
  type ConfiguredMethod,
  type ContiguousKVCache,
  type Dispatch,
  type DType,
  type KVCache,
  type PagedKVCache,
  type Plan,
  type Runtime,
  recordDispatches,
  type SparseAttention,
  SparseAttentionError,
  type Tensor,
  tensorView,
} from '@sparse-attention/core'
import { type ConvertElements, convertElements, dense } from '@sparse-attention/kernels'
import type { Tensor as OrtTensor } from 'onnxruntime-web'
import type { AttentionNode, Layouts } from './attention-node.js'
import type { BufferPool } from './buffer-pool.js'
import type { CutAttention } from './cut.js'
import { cannotCut } from './errors.js'
import type { HostFacts } from './host-check.js'
import type { ModelState } from './model-state.js'
import { type Recorder, submit } from './submit.js'

/** One method, or one for calls of many tokens and another for calls of one token. */
export type AttentionMethod =
  | ConfiguredMethod
  | { readonly prefill: ConfiguredMethod; readonly decode: ConfiguredMethod }

/** What `onAttention` is told. Everything in it is valid until the promise that it returns resolves. */
export interface AttentionEvent {
  readonly node: AttentionNode
  /** Id of the method that ran. */
  readonly method: string
  /**
   * [batch, query_heads, query_length, head_dim], strided; k and v likewise with KV heads and key_length. Where the keys lie in the
   * pages of `cache`, k and v are those of the new tokens.
   */
  readonly q: Tensor
  readonly k: Tensor
  readonly v: Tensor
  /** What the attention read, where that was a paged cache. */
  readonly cache?: KVCache
  readonly out: Tensor
  /** [batch, query_heads, query_length] f32, natural log. */
  readonly lse: Tensor
  readonly plan: Plan
  /** The attention's layer, and what the run was given. */
  readonly context: AttentionContext
  /** Wall time of planning and attention, the GPU idle before and after. */
  readonly attentionMs: number
}

export interface AttentionCall {
  readonly tensors: Readonly<Record<'q' | 'k' | 'v', OrtTensor>>
  readonly facts: HostFacts
  /** Tokens before the new ones, where that is fed; 0 without a past. */
  readonly pastLength: number
  /** Where past keys and values are, and the new ones go; undefined where k and v hold both. */
  readonly cache: KVCache | undefined
  /** In place of the methods chosen when the model was loaded. */
  readonly method: AttentionMethod | undefined
  /** What else the method is told; the layer is this attention's. */
  readonly context: Omit<AttentionContext, 'layer'> | undefined
  /** Undefined: methods that remember something do so in the attention itself. */
  readonly state: ModelState | undefined
  readonly pool: BufferPool
  readonly signal: AbortSignal | undefined
  readonly onAttention: ((event: AttentionEvent) => void | Promise<void>) | undefined
}

export interface AttentionOutput {
  /** From the pool. */
  readonly buffer: GPUBuffer
  readonly dtype: DType
  /** Of [batch, query_length, query_heads · head_dim], or of the four axes that the graph has there. */
  readonly dims: readonly number[]
}

/** For calls of many tokens, and of one. */
export interface MethodPair {
  readonly prefill: ConfiguredMethod
  readonly decode: ConfiguredMethod
}

/** A method for one kind of call leaves the other to exact attention. */
export function methodPair(method: AttentionMethod): MethodPair {
  const { prefill, decode } = 'method' in method ? { prefill: method, decode: method } : method
  return {
    prefill: prefill.method.capabilities.queryLength === 'one' ? exactPrefill : prefill,
    decode: decode.method.capabilities.queryLength === 'many' ? exactDecode : decode,
  }
}

/** One object each, so that it is compiled once. */
export const exactPrefill: ConfiguredMethod = dense()
const exactDecode: ConfiguredMethod = dense({ kernel: 'split' })
/** Exact attention that reads pages. */
const exactPaged = exactDecode

/** What is compiled into an attention besides the node's heads and scale. */
interface Kind {
  readonly headDim: number
  readonly dtype: DType
  /** A mask that a run is fed may be another than its form promised. */
  readonly causal: boolean
  readonly pageSize: number | undefined
}

interface Converters {
  readonly inward: ConvertElements
  readonly outward: ConvertElements
}

/** An attention of the model that a method computes. */
export class ReplacedAttention {
  readonly methods: MethodPair
  readonly #compiled = new Map<ConfiguredMethod, Map<string, Promise<SparseAttention>>>()
  #headDim: number | undefined
  #compiledConverters: Promise<Converters> | undefined

  /**
   * @param pageSize of the caches that it will be called with; undefined: they are contiguous, or there are none
   * @param computes the dtype to convert its tensors to; undefined: it computes in theirs
   */
  constructor(
    private readonly runtime: Runtime,
    readonly cut: CutAttention,
    method: AttentionMethod,
    private readonly pageSize: number | undefined,
    private readonly computes: DType | undefined,
  ) {
    this.methods = methodPair(method)
  }

  get node(): AttentionNode {
    const { node } = this.cut.found
    return this.#headDim === undefined ? node : { ...node, headDim: this.#headDim }
  }

  /** Compiles for a head dim, which may be known before the first call. */
  async prepare(headDim: number, given: DType): Promise<void> {
    const { prefill, decode } = this.methods
    const { causal } = this.cut.found.node
    const dtype = this.computes ?? given
    await this.#converters(given, dtype)
    // A prompt is read from its own keys as long as there is no past.
    await this.#compile(prefill, { headDim, dtype, causal, pageSize: undefined })
    const { pageSize } = this
    await this.#compile(pageSize === undefined ? decode : this.#overPages(decode), { headDim, dtype, causal, pageSize })
    this.#headDim = headDim
  }

  /** What runs over a past in pages: where the method cannot read them, exact attention. */
  #overPages(chosen: ConfiguredMethod): ConfiguredMethod {
    const { method } = chosen
    return method.capabilities.pages && method !== exactPaged.method ? chosen : exactPaged
  }

  #compile(method: ConfiguredMethod, { headDim, dtype, causal, pageSize }: Kind): Promise<SparseAttention> {
    // Another head dim or dtype than compiled for is refused by the attention itself.
    const key = `${causal} ${pageSize}`
    const kinds = this.#compiled.get(method) ?? new Map<string, Promise<SparseAttention>>()
    this.#compiled.set(method, kinds)
    const known = kinds.get(key)
    if (known) return known
    const { queryHeads, kvHeads, scale } = this.cut.found.node
    const config = { queryHeads, kvHeads, headDim, dtype, causal }
    const made = this.runtime.use(method, {
      ...config,
      ...(scale !== undefined && { scale }),
      ...(pageSize !== undefined && { pageSize }),
    })
    kinds.set(key, made)
    // What failed is tried again.
    made.catch(() => kinds.delete(key))
    return made
  }

  /**
   * Attends. The tensors are read; the output's buffer is taken from the pool.
   *
   * @throws UNSUPPORTED, INVALID_SHAPE naming the node, and what the method throws
   */
  async run(call: AttentionCall): Promise<AttentionOutput> {
    const { pool, signal, onAttention, cache } = call
    const shape = callShape(this.cut, call)
    const { chosen, attention, pageSize } = await this.#choose(call, shape)
    const { dims, sizeBytes } = this.#outputOf(shape)
    const buffer = pool.take(sizeBytes)
    const memory = new Leases(pool)
    try {
      const { q, k, v, out, lse, inward, outward } = await this.#arrange(call, shape, buffer, memory)
      const checks = [cache && this.#append(cache, k, v)]
      const held = cache?.layout === 'contiguous' ? heldKeys(cache as ContiguousKVCache, shape.keyLength) : { k, v }
      checks.push(this.#submit(inward))
      const pages = pageSize === undefined ? undefined : cache
      if (onAttention) await this.runtime.idle()
      const { context, state } = this.#told(call, chosen, attention)
      const start = performance.now()
      const { plan } = await attention.run(
        { q, out, lse, ...(pages ? { cache: pages } : held), context, ...(state && { state }) },
        signal === undefined ? {} : { signal },
      )
      if (onAttention) {
        await this.runtime.idle()
        const attentionMs = performance.now() - start
        const event = { node: this.node, method: attention.id, q, out, lse, ...held, plan, context, attentionMs }
        await onAttention(pages ? { ...event, cache: pages } : event)
      }
      checks.push(this.#submit(outward))
      await Promise.all(checks)
      return { buffer, dtype: shape.dtype, dims }
    } catch (error) {
      pool.give(buffer)
      throw error
    } finally {
      memory.end()
    }
  }

  /** What a call without a cache writes: as `run` returns it. */
  output(call: Pick<AttentionCall, 'tensors' | 'facts' | 'pastLength' | 'cache'>): Omit<AttentionOutput, 'buffer'> {
    const shape = callShape(this.cut, call)
    return { dtype: shape.dtype, dims: this.#outputOf(shape).dims }
  }

  /**
   * Submits an attention without a cache, and waits for nothing.
   *
   * @param buffer gets the output
   * @param before records what the attention reads, in the same submit
   * @returns what rejects where the GPU refuses the work: to be awaited with what the work gives
   * @throws as `run`
   */
  async submitInto(
    call: AttentionCall,
    buffer: GPUBuffer,
    before?: Recorder,
  ): Promise<{ readonly checks: readonly Promise<void>[] }> {
    const { runtime } = this
    const { device } = runtime
    const shape = callShape(this.cut, call)
    const { chosen, attention } = await this.#choose(call, shape)
    const memory = new Leases(call.pool)
    try {
      const { q, k, v, out, lse, inward, outward } = await this.#arrange(call, shape, buffer, memory)
      const { context, state } = this.#told(call, chosen, attention)
      const { parts } = attention.encodeParts({ q, k, v, out, lse, context, ...(state && { state }) })
      const checks = parts.map((part, index) =>
        submit(runtime, this.node.name, (encoder) => {
          if (index === 0) before?.(encoder)
          if (index === 0 && inward.length > 0) recordDispatches(device, encoder, inward)
          part(encoder)
          if (index === parts.length - 1 && outward.length > 0) recordDispatches(device, encoder, outward)
        }),
      )
      return { checks }
    } finally {
      memory.end()
    }
  }

  /** The method of a call, compiled; with the page size where it reads pages. */
  async #choose({ method, cache }: AttentionCall, { queryLength, headDim, dtype: given, causal }: CallShape) {
    const dtype = this.computes ?? given
    const { prefill, decode } = method ? methodPair(method) : this.methods
    const wanted = queryLength === 1 ? decode : prefill
    // A prompt without a past is read from its own keys, which every method can.
    const paged = cache?.layout === 'paged' && (cache.length > 0 || queryLength === 1)
    const pageSize = paged ? (cache as PagedKVCache).pageSize : undefined
    const chosen = pageSize === undefined ? wanted : this.#overPages(wanted)
    const attention = await this.#compile(chosen, { headDim, dtype, causal, pageSize })
    this.#headDim = headDim
    return { chosen, attention, pageSize }
  }

  /** What a method is told of a call, and what it remembers. */
  #told({ context, state }: AttentionCall, { method }: ConfiguredMethod, attention: SparseAttention) {
    return {
      context: { ...context, layer: this.node.layer } satisfies AttentionContext,
      state: method.capabilities.state ? state?.of(attention) : undefined,
    }
  }

  #outputOf({ batch, queryLength, headDim, dtype }: CallShape): {
    dims: number[]
    elements: number
    sizeBytes: number
  } {
    const dims = dimsOf({ batch, heads: this.node.queryHeads, length: queryLength, headDim }, this.cut.layouts.out)
    const elements = sizeOf(dims)
    return { dims, elements, sizeBytes: elements * bytesPerElement[dtype] }
  }

  /** Views of a call's tensors in the dtype that it computes in, and the dispatches that convert between. */
  async #arrange({ tensors, cache }: AttentionCall, shape: CallShape, buffer: GPUBuffer, memory: Leases) {
    const { layouts } = this.cut
    const { node } = this.cut.found
    const { batch, queryLength, headDim } = shape
    const dtype = this.computes ?? shape.dtype
    const convert = await this.#converters(shape.dtype, dtype)
    const inward: Dispatch[] = []
    const view = (part: 'q' | 'k' | 'v', length?: number) => {
      const { dims } = tensors[part]
      const heads = part === 'q' ? node.queryHeads : node.kvHeads
      const { axes, layout } = axesOf(dims, heads, layouts[part])!
      const source = this.#onGpu(tensors[part], memory)
      const held = convert ? memory.take(sizeOf(dims) * bytesPerElement[dtype]) : source
      if (convert) inward.push(...convert.inward(sizeOf(dims), whole(source), whole(held)))
      return viewHeads(held, dtype, axes, layout, length)
    }
    const shown = cache ? undefined : shape.keyLength
    const { elements } = this.#outputOf(shape)
    const computed = convert ? memory.take(elements * bytesPerElement[dtype]) : buffer
    const rows = [batch, node.queryHeads, queryLength]
    return {
      q: view('q'),
      k: view('k', shown),
      v: view('v', shown),
      out: viewHeads(computed, dtype, { batch, heads: node.queryHeads, length: queryLength, headDim }, layouts.out),
      lse: tensorView(memory.take(sizeOf(rows) * 4), 'f32', rows),
      inward,
      outward: convert ? convert.outward(elements, whole(computed), whole(buffer)) : [],
    }
  }

  /** What computes a call of one token, compiled. */
  forStep(q: Tensor, cache: KVCache | undefined, given: AttentionMethod | undefined): Promise<SparseAttention> {
    const { decode } = given ? methodPair(given) : this.methods
    const { causal } = this.cut.found.node
    const pageSize = cache?.layout === 'paged' ? (cache as PagedKVCache).pageSize : undefined
    return this.#compile(pageSize === undefined ? decode : this.#overPages(decode), {
      headDim: q.shape[3]!,
      dtype: q.dtype,
      causal,
      pageSize,
    })
  }

  /** Records the appending of one token's key and value, and its attention. */
  encodeStep(
    encoder: GPUCommandEncoder,
    attention: SparseAttention,
    { q, k, v, out, lse }: Readonly<Record<'q' | 'k' | 'v' | 'out' | 'lse', Tensor>>,
    cache: KVCache | undefined,
  ): void {
    cache?.append(encoder, k, v)
    const keys = cache ? { cache } : { k, v }
    attention.encode(encoder, { q, ...keys, out, lse, context: { layer: this.cut.found.node.layer } })
  }

  /** Between the dtype of its tensors and that in which it computes; undefined where they are the same. */
  async #converters(given: DType, dtype: DType): Promise<Converters | undefined> {
    if (given === dtype) return undefined
    this.#compiledConverters ??= Promise.all([
      convertElements(this.runtime, dtype),
      convertElements(this.runtime, given),
    ]).then(([inward, outward]) => ({ inward, outward }))
    return this.#compiledConverters
  }

  /** Rejects when the GPU refuses it. */
  #submit(dispatches: readonly Dispatch[]): Promise<void> | undefined {
    if (dispatches.length === 0) return undefined
    const { runtime } = this
    return submit(runtime, `convert for ${this.node.name}`, (encoder) =>
      recordDispatches(runtime.device, encoder, dispatches),
    )
  }

  /** Puts new keys and values behind those held. Rejects when the GPU refuses it. */
  #append(cache: KVCache, k: Tensor, v: Tensor): Promise<void> {
    const label = `append to the KV cache of ${this.node.name}`
    return submit(this.runtime, label, (encoder) => cache.append(encoder, k, v))
  }

  /** The tensor's buffer; what lies on the CPU is uploaded. */
  #onGpu(tensor: OrtTensor, memory: Leases): GPUBuffer {
    if (tensor.location === 'gpu-buffer') return tensor.gpuBuffer as unknown as GPUBuffer
    const data = tensor.data as unknown as ArrayBufferView<ArrayBuffer>
    const buffer = memory.take(data.byteLength)
    this.runtime.device.queue.writeBuffer(buffer, 0, data.buffer, data.byteOffset, data.byteLength)
    return buffer
  }

  dispose(): void {
    for (const kinds of this.#compiled.values()) {
      for (const made of kinds.values()) made.then((attention) => attention.dispose()).catch(() => {})
    }
    this.#compiled.clear()
  }
}

/** Buffers that a call holds until its work is submitted. */
class Leases {
  readonly #taken: GPUBuffer[] = []

  constructor(private readonly pool: BufferPool) {}

  take(sizeBytes: number): GPUBuffer {
    const buffer = this.pool.take(sizeBytes)
    this.#taken.push(buffer)
    return buffer
  }

  end(): void {
    for (const buffer of this.#taken.splice(0)) this.pool.give(buffer)
  }
}

function sizeOf(dims: readonly number[]): number {
  return dims.reduce((product, size) => product * size, 1)
}

function whole(buffer: GPUBuffer): BufferSlice {
  return { buffer, offsetBytes: 0, sizeBytes: buffer.size }
}

/** As many of the tokens held as the attention sees. */
function heldKeys(cache: ContiguousKVCache, keyLength: number): { readonly k: Tensor; readonly v: Tensor } {
  const seen = (held: Tensor) => {
    const [batch, heads, , headDim] = held.shape as readonly [number, number, number, number]
    return { ...held, shape: [batch, heads, keyLength, headDim] }
  }
  return { k: seen(cache.keys()), v: seen(cache.values()) }
}

interface CallShape {
  readonly batch: number
  readonly queryLength: number
  /** Keys that may be seen: those of the past included, those that no query sees left out. */
  readonly keyLength: number
  readonly headDim: number
  readonly dtype: DType
  readonly causal: boolean
}

/** onnxruntime-web's type of a tensor as ours. */
export function dtypeOf(type: string, node: string): DType {
  if (type === 'float32') return 'f32'
  if (type === 'float16') return 'f16'
  throw cannotCut(node, `its tensors are ${type}, only float32 and float16 are supported`)
}

/** Checks the tensors of one call against the node, each other and the mask. */
function callShape(
  cut: CutAttention,
  { tensors: { q, k, v }, facts, pastLength, cache }: Pick<AttentionCall, 'tensors' | 'facts' | 'pastLength' | 'cache'>,
): CallShape {
  const { node, args, upperLeft } = cut.found
  const dtype = dtypeOf(q.type, node.name)
  // A bias is for keys of three axes, and added to others it would come out wrong.
  const raw = args.pastKey === '' && args.presentKey === ''
  const fused = node.opType === 'GroupQueryAttention' || node.opType === 'MultiHeadAttention'
  const read = (part: 'q' | 'k' | 'v', { dims }: OrtTensor) => {
    const heads = part === 'q' ? node.queryHeads : node.kvHeads
    const axes = axesOf(dims, heads, cut.layouts[part])?.axes
    const refused = fused
      ? dims.length === 4 && (part === 'q' || (args.bias !== '' && raw))
      : part === 'q' && (dims.length === 3) !== (cut.layouts.out === 'BLE')
    if (dims.includes(0) || !axes || refused) {
      throw new SparseAttentionError('INVALID_SHAPE', {
        message: `The ${{ q: 'query', k: 'key', v: 'value' }[part]} of node ${node.name} has the shape [${dims}] with ${heads} heads.`,
        fix: `Feed inputs that give it [batch, length, ${heads} · head_dim] with every size at least 1.`,
        where: node.name,
      })
    }
    return axes
  }
  const query = read('q', q)
  const key = read('k', k)
  read('v', v)
  const { batch, length: queryLength, headDim } = query
  const keys = key.length + (cache?.length ?? 0)
  const told = facts.keyLength(cut.found)
  if (told !== undefined && keys !== told) {
    throw cannotCut(
      node.name,
      `its past and new keys are ${keys} together, but total_sequence_length is ${told}; a past that is longer than ` +
        'what it holds is not supported',
    )
  }
  // Without a past, onnxruntime's providers disagree on which keys the first query sees.
  if (node.opType === 'MultiHeadAttention' && node.causal && args.pastKey === '' && keys !== queryLength) {
    throw cannotCut(node.name, `it is unidirectional with ${queryLength} queries and ${keys} keys, but without a past`)
  }
  const shown = facts.visibility(cut.found, { queryLength, keyLength: keys })
  const masked = shown === undefined || shown === 'either' ? node.causal : shown === 'causal'
  const common = { batch, queryLength, headDim, dtype }
  if (!upperLeft) return { ...common, keyLength: keys, causal: masked }
  // Its queries see keys up to their own position, counted from the first key, and ours counted from the last: the same
  // when the keys that no query sees are left out.
  const visible = (cache?.length ?? pastLength) + queryLength
  if (visible > keys) {
    throw cannotCut(
      node.name,
      `it is causal with ${queryLength} queries after a past of ${visible - queryLength}, but with only ${keys} keys`,
    )
  }
  return { ...common, keyLength: visible, causal: true }
}

interface Axes {
  readonly batch: number
  readonly heads: number
  readonly length: number
  readonly headDim: number
}

/** What the axes of q, k or v are; undefined when they do not fit the heads. */
function axesOf(
  dims: readonly number[],
  heads: number,
  given: Layouts['out'],
): { readonly axes: Axes; readonly layout: Layouts['out'] } | undefined {
  const [batch = 0, second = 0, third = 0, last = 0] = dims
  if (dims.length === 3 && third % heads === 0) {
    return { axes: { batch, heads, length: second, headDim: third / heads }, layout: 'BLE' }
  }
  if (dims.length !== 4) return undefined
  const [length, found] = given === 'BLHD' ? [second, third] : [third, second]
  const layout = given === 'BLHD' ? 'BLHD' : 'BHLD'
  return found === heads ? { axes: { batch, heads, length, headDim: last }, layout } : undefined
}

function dimsOf({ batch, heads, length, headDim }: Axes, layout: Layouts['out']): number[] {
  if (layout === 'BLE') return [batch, length, heads * headDim]
  return layout === 'BLHD' ? [batch, length, heads, headDim] : [batch, heads, length, headDim]
}

/**
 * Memory of a layout as [batch, heads, length, D].
 *
 * @param shown fewer tokens than there are
 */
function viewHeads(
  buffer: GPUBuffer,
  dtype: DType,
  { batch, heads, length, headDim }: Axes,
  layout: Layouts['out'],
  shown: number = length,
): Tensor {
  const shape = [batch, heads, shown, headDim]
  const perBatch = heads * length * headDim
  const [perHead, perToken] = layout === 'BHLD' ? [length * headDim, headDim] : [headDim, heads * headDim]
  return tensorView(buffer, dtype, shape, { strides: [perBatch, perHead, perToken, 1] })
}
