import { type DType, type Runtime, SparseAttentionError } from '@sparse-attention/core'
import type { InferenceSession, Tensor } from 'onnxruntime-web'
import { type AttentionNode, checkReplaceable, type FoundAttention, findAttentions } from './attention-node.js'
import { BufferPool } from './buffer-pool.js'
import { type Cut, type CutAttention, cutGraph, type Level } from './cut.js'
import { cannotCut } from './errors.js'
import { checkFeeds, checkOutputs } from './feeds.js'
import { type Graph, readGraph } from './graph.js'
import { LengthCheck, type Lengths } from './lengths.js'
import { type Dim, parseModel, tensorTypeOf } from './onnx.js'
import { Engine, type Ort, outputTypes, type Provider, type SessionOptions } from './ort.js'
import { pieceModel, type ValueType } from './piece-model.js'
import {
  type AttentionEvent,
  type AttentionMethod,
  type AttentionOutput,
  dtypeOf,
  ReplacedAttention,
} from './replaced-attention.js'
import { floatValues } from './value-types.js'
import { Values } from './values.js'

/** Where a tensor is returned. */
export type OutputLocation = 'cpu' | 'gpu-buffer'

export interface LoadProgress {
  /** Steps done, and all of them. */
  readonly done: number
  readonly total: number
  /** What was done last, e.g. `piece 2 of 9`. */
  readonly step: string
}

export interface LoadOptions {
  /**
   * Chooses for each attention of the model what computes it: a method, or 'keep' for onnxruntime-web's own. Methods for
   * calls of many tokens leave calls of one token to `dense`, unless `{ prefill, decode }` says otherwise.
   */
  readonly attention: (node: AttentionNode) => AttentionMethod | 'keep'
  /**
   * 'webgpu': the pieces run on the runtime's device and nothing is read back between them. 'wasm': they run on the CPU,
   * attention inputs are uploaded and its outputs read back. Default 'auto': 'wasm' on a software adapter, where it is
   * much faster, else 'webgpu'.
   */
  readonly provider?: Provider | 'auto'
  /**
   * Where outputs are returned with provider 'webgpu', for all or by name. Default: present keys and values of replaced
   * attentions on the GPU, ready to be fed back, everything else on the CPU. With 'wasm' all are on the CPU.
   */
  readonly preferredOutputLocation?: OutputLocation | Readonly<Record<string, OutputLocation>>
  /** Passed on to onnxruntime-web. Default `logSeverityLevel` 3: errors only. */
  readonly sessionOptions?: SessionOptions
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: LoadProgress) => void
}

export interface ModelRunOptions {
  /** Outputs to return. Default: all of the graph's. */
  readonly outputs?: readonly string[]
  /** Stops before the next piece or submit; the call rejects with the signal's reason and frees what it made. */
  readonly signal?: AbortSignal
  /**
   * Called after each replaced attention, and awaited. Costs time: the GPU is drained before and after each attention, to
   * measure it.
   */
  readonly onAttention?: (event: AttentionEvent) => void | Promise<void>
}

/** What a model was cut into. */
export interface ModelDescription {
  readonly provider: Provider
  /** Sessions of onnxruntime-web that a run goes through, one after the other. */
  readonly pieces: number
  readonly attentions: readonly {
    readonly node: AttentionNode
    /** Ids of the methods, or 'keep'. */
    readonly prefill: string
    readonly decode: string
  }[]
}

/**
 * An ONNX model whose attention is computed by methods of this project, and everything else by onnxruntime-web, on one
 * GPU device. Not thread-safe by design of onnxruntime-web: runs queue up.
 */
export class AttentionModel implements AsyncDisposable {
  readonly #engine: Engine
  readonly #pool: BufferPool
  readonly #graph: Graph
  readonly #cut: Cut
  readonly #found: readonly FoundAttention[]
  readonly #sessions: (InferenceSession | undefined)[] = []
  readonly #replaced = new Map<CutAttention, ReplacedAttention>()
  readonly #location: (output: string) => OutputLocation
  #lengths: LengthCheck | undefined
  #lastRun: Promise<unknown> = Promise.resolve()
  #disposed: Promise<void> | undefined

  private constructor(runtime: Runtime, ort: Ort, bytes: Uint8Array, options: LoadOptions) {
    this.#graph = readGraph(parseModel(bytes))
    this.#found = findAttentions(this.#graph)
    if (this.#found.length === 0) throw noAttention(this.#graph)
    const methods = new Map<FoundAttention, AttentionMethod>()
    for (const found of this.#found) {
      const choice = options.attention(found.node)
      if (choice === 'keep') continue
      checkReplaceable(found, this.#graph)
      methods.set(found, choice)
    }
    this.#cut = cutGraph(this.#graph, [...methods.keys()])
    for (const { attentions } of this.#cut.levels) {
      for (const cut of attentions) {
        this.#replaced.set(cut, new ReplacedAttention(runtime, cut, methods.get(cut.found)!))
      }
    }
    this.#engine = new Engine(ort, runtime, chooseProvider(options.provider, runtime), options.sessionOptions)
    this.#pool = new BufferPool(runtime)
    const presents = new Set([...methods.keys()].flatMap(({ args }) => [args.presentKey, args.presentValue]))
    const preferred = options.preferredOutputLocation
    this.#location = (output) =>
      typeof preferred === 'string' ? preferred : (preferred?.[output] ?? (presents.has(output) ? 'gpu-buffer' : 'cpu'))
  }

  /**
   * Reads, checks and cuts a model, then loads its pieces and compiles the methods.
   *
   * @param ort the module `onnxruntime-web`, or `onnxruntime-web/webgpu` where the pieces run on the GPU
   * @param bytes an .onnx file with its weights inside
   * @throws INVALID_FILE for a malformed file, UNSUPPORTED for one that cannot be cut, naming the node and the reason,
   *   before any GPU work
   * @throws WEBGPU_UNAVAILABLE, MISSING_DEPENDENCY when onnxruntime-web cannot start, and what `runtime.use` throws
   */
  static async load(
    runtime: Runtime,
    ort: Ort,
    bytes: Uint8Array | ArrayBuffer,
    options: LoadOptions,
  ): Promise<AttentionModel> {
    options.signal?.throwIfAborted()
    runtime.assertUsable()
    const model = new AttentionModel(runtime, ort, bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes), options)
    try {
      await model.#load(options)
      return model
    } catch (error) {
      await model.dispose()
      throw error
    }
  }

  /** Names of the tensors to feed. */
  get inputNames(): readonly string[] {
    return [...this.#graph.inputs.keys()]
  }

  get outputNames(): readonly string[] {
    return this.#graph.outputs
  }

  describe(): ModelDescription {
    const replaced = new Map([...this.#replaced.values()].map((each) => [each.cut.found, each]))
    return {
      provider: this.#engine.provider,
      pieces: this.#sessions.filter((session) => session).length,
      attentions: this.#found.map((found) => {
        const ours = replaced.get(found)
        if (!ours) return { node: found.node, prefill: 'keep', decode: 'keep' }
        return { node: ours.node, prefill: ours.prefill.method.id, decode: ours.decode.method.id }
      }),
    }
  }

  /**
   * Runs the model once.
   *
   * @param feeds one tensor for each of `inputNames`, on the CPU or, with provider 'webgpu', on the runtime's device; they
   *   stay the caller's
   * @returns the outputs, the caller's to dispose
   * @throws INVALID_ARGUMENT, INVALID_SHAPE, INVALID_DTYPE for wrong feeds; UNSUPPORTED for padded batches; DISPOSED;
   *   DEVICE_LOST; and what the methods throw
   */
  run(feeds: Readonly<Record<string, Tensor>>, options: ModelRunOptions = {}): Promise<Record<string, Tensor>> {
    if (this.#disposed) return Promise.reject(disposed())
    const result = this.#lastRun.then(() => this.#run(feeds, options))
    this.#lastRun = result.catch(() => {})
    return result
  }

  /** Waits for the run under way, then frees sessions, methods and buffers. May be called twice. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#lastRun.then(() => this.#release())
    return this.#disposed
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  async #load({ signal, onProgress }: LoadOptions): Promise<void> {
    const { levels, lengths } = this.#cut
    const total = levels.reduce((count, { piece, attentions }) => count + (piece ? 1 : 0) + attentions.length, 0)
    let done = 0
    const progress = (step: string) => {
      signal?.throwIfAborted()
      onProgress?.({ done: ++done, total, step })
    }
    if (lengths) {
      const bytes = pieceModel(this.#graph, lengths, new Map())
      const engine = new Engine(this.#engine.ort, this.#engine.runtime, 'wasm')
      const session = await engine.load(bytes, 'the sequence lengths')
      this.#lengths = new LengthCheck(engine, session, lengths, [...this.#replaced.keys()])
    }
    const types = new Map<string, ValueType>()
    const floats = floatValues(this.#graph)
    for (const [index, level] of levels.entries()) {
      signal?.throwIfAborted()
      if (level.piece) {
        const bytes = pieceModel(this.#graph, level.piece, types)
        const session = await this.#engine.load(bytes, this.#nameOf(index), this.#onGpu(level, floats))
        this.#sessions[index] = session
        for (const [name, type] of outputTypes(session)) types.set(name, type)
        progress(this.#nameOf(index))
      }
      for (const cut of level.attentions) {
        await this.#prepare(cut, types)
        progress(`attention ${cut.found.node.name}`)
      }
    }
  }

  /** Outputs of a piece that stay on the GPU: floats that are used there again, or wanted there. */
  #onGpu({ piece, attentions }: Level, floats: ReadonlySet<string>): string[] {
    const ours = new Set(attentions.flatMap(({ q, k, v }) => [q, k, v]))
    return piece!.outputs.filter(
      (value) =>
        ours.has(value) ||
        (floats.has(value) && (this.#cut.lastUse.has(value) || this.#location(value) === 'gpu-buffer')),
    )
  }

  /** Compiles an attention where the file tells its head dim, and notes the type of its output. */
  async #prepare(cut: CutAttention, types: Map<string, ValueType>): Promise<void> {
    const { node } = cut.found
    const query = types.get(cut.q)
    if (!query) throw cannotCut(node.name, 'its query is not a tensor')
    const dtype: DType = dtypeOf(tensorTypeOf(query.elemType) ?? `of the ONNX type ${query.elemType}`, node.name)
    const width = query.dims?.[2]
    const known = typeof width === 'number' && width % node.queryHeads === 0 ? width / node.queryHeads : node.headDim
    if (known !== undefined) await this.#replaced.get(cut)!.prepare(known, dtype)
    const unknown: Dim[] = [undefined, undefined, undefined]
    types.set(cut.output, { elemType: query.elemType, dims: query.dims?.length === 3 ? query.dims : unknown })
  }

  async #run(feeds: Readonly<Record<string, Tensor>>, options: ModelRunOptions): Promise<Record<string, Tensor>> {
    options.signal?.throwIfAborted()
    this.#engine.runtime.assertUsable()
    checkFeeds(this.#graph, feeds, this.#engine.provider)
    const requested = new Set(checkOutputs(this.#graph, options.outputs))
    const lengths: Lengths = (await this.#lengths?.read(feeds)) ?? new Map()
    const values = new Values(feeds)
    try {
      for (const [index, level] of this.#cut.levels.entries()) {
        await this.#runPiece(index, level, values, requested, options.signal)
        for (const cut of level.attentions) await this.#attend(cut, values, lengths, options)
        for (const [value, last] of this.#cut.lastUse) if (last === index && !requested.has(value)) values.free(value)
      }
      return await this.#collect(requested, values, feeds)
    } finally {
      values.freeAll()
    }
  }

  async #runPiece(
    index: number,
    { piece }: Level,
    values: Values,
    requested: ReadonlySet<string>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const fetches = piece?.outputs.filter((value) => this.#cut.lastUse.has(value) || requested.has(value)) ?? []
    if (!piece || fetches.length === 0) return
    signal?.throwIfAborted()
    const feeds = Object.fromEntries(piece.inputs.map((name) => [name, values.get(name)]))
    const results = await this.#engine.run(this.#sessions[index]!, feeds, fetches, this.#nameOf(index))
    for (const [name, tensor] of Object.entries(results)) values.add(name, tensor)
  }

  async #attend(cut: CutAttention, values: Values, lengths: Lengths, options: ModelRunOptions): Promise<void> {
    const output = await this.#replaced.get(cut)!.run({
      tensors: { q: values.get(cut.q), k: values.get(cut.k), v: values.get(cut.v) },
      keyLength: lengths.get(cut.found.args.totalSequenceLength),
      pool: this.#pool,
      signal: options.signal,
      onAttention: options.onAttention,
    })
    const { buffer } = output
    if (this.#engine.provider === 'webgpu') {
      values.add(cut.output, this.#gpuTensor(output), () => this.#pool.give(buffer))
      return
    }
    try {
      values.add(cut.output, await this.#readBack(output))
    } finally {
      this.#pool.give(buffer)
    }
  }

  #gpuTensor({ buffer, dtype, dims }: AttentionOutput): Tensor {
    const { ort } = this.#engine
    return ort.Tensor.fromGpuBuffer(buffer as never, {
      dataType: dtype === 'f32' ? 'float32' : 'float16',
      dims,
      download: async () => (await this.#readBack({ buffer, dtype, dims })).data as never,
      dispose: () => {
        this.#pool.surrender(buffer)
        buffer.destroy()
      },
    })
  }

  async #readBack({ buffer, dtype, dims }: AttentionOutput): Promise<Tensor> {
    const { ort, runtime } = this.#engine
    const sizeBytes = dims.reduce((product, dim) => product * dim, dtype === 'f32' ? 4 : 2)
    const bytes = await runtime.readBytes({ buffer, offsetBytes: 0, sizeBytes })
    return dtype === 'f32'
      ? new ort.Tensor('float32', new Float32Array(bytes), dims)
      : new ort.Tensor('float16', new Uint16Array(bytes), dims)
  }

  async #collect(
    requested: ReadonlySet<string>,
    values: Values,
    feeds: Readonly<Record<string, Tensor>>,
  ): Promise<Record<string, Tensor>> {
    const outputs: Record<string, Tensor> = {}
    try {
      for (const name of requested) {
        const fed = feeds[name]
        if (fed) {
          outputs[name] = fed
          continue
        }
        const tensor = values.give(name)
        outputs[name] = tensor
        if (tensor.location === 'gpu-buffer' && this.#location(name) === 'cpu') await this.#engine.download(tensor)
      }
      return outputs
    } catch (error) {
      for (const [name, tensor] of Object.entries(outputs)) if (!feeds[name]) tensor.dispose()
      throw error
    }
  }

  #nameOf(level: number): string {
    return `piece ${level + 1} of ${this.#cut.levels.length}`
  }

  async #release(): Promise<void> {
    for (const attention of this.#replaced.values()) attention.dispose()
    this.#pool.dispose()
    await this.#lengths?.dispose()
    for (const session of this.#sessions) if (session) await this.#engine.release(session)
  }
}

function chooseProvider(given: Provider | 'auto' | undefined, runtime: Runtime): Provider {
  if (given === 'webgpu' || given === 'wasm') return given
  if (given === undefined || given === 'auto') return runtime.software ? 'wasm' : 'webgpu'
  throw new SparseAttentionError('INVALID_OPTION', {
    message: `provider is '${given as string}'.`,
    fix: "Use 'auto', 'webgpu' or 'wasm'.",
    where: 'provider',
  })
}

function disposed(): SparseAttentionError {
  return new SparseAttentionError('DISPOSED', {
    message: 'The model is disposed.',
    fix: 'Load it again.',
    where: 'model',
  })
}

function noAttention(graph: Graph): SparseAttentionError {
  const similar = graph.nodes.find(({ proto }) => proto.opType.includes('Attention'))
  const seen = similar ? ` Node ${similar.label} is ${similar.proto.domain || 'ai.onnx'}.${similar.proto.opType}.` : ''
  return new SparseAttentionError('UNSUPPORTED', {
    message: `The graph has no com.microsoft GroupQueryAttention or MultiHeadAttention node.${seen}`,
    fix: "Export it with fused attention, e.g. by onnxruntime's transformer optimizer or its model builder.",
    where: similar?.label ?? 'graph',
  })
}
