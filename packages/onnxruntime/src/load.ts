import { type DType, type Runtime, SparseAttentionError } from '@sparse-attention/core'
import type { InferenceSession } from 'onnxruntime-web'
import type { AttentionNode, FoundAttention } from './attention-node.js'
import { CapturedPasses } from './captured-pass/captured-passes.js'
import { CapturedStep } from './captured-step/captured-step.js'
import { fixedCut } from './captured-step/fixed-graph.js'
import { type Cut, cutGraph, type Level } from './cut.js'
import { cannotCut, reasonOf, rethrowUnrelated } from './errors.js'
import { type ExternalData, readExternalData } from './external-data.js'
import { findAttentions } from './find-attentions.js'
import { type Graph, readGraph } from './graph.js'
import { HostCheck } from './host-check.js'
import { DataType, parseModel, tensorTypeOf, type ValueInfoProto } from './onnx.js'
import { Engine, type Ort, outputTypes, type Provider, type SessionOptions } from './ort.js'
import { pieceModel, type ValueType } from './piece-model.js'
import { type AttentionMethod, dtypeOf, ReplacedAttention } from './replaced-attention.js'
import { floatValues } from './value-types.js'
import { type CachedAttention, withCache } from './with-cache.js'

/** Where a tensor is returned. */
export type OutputLocation = 'cpu' | 'gpu-buffer'

export interface LoadProgress {
  /** Steps done, and all of them. */
  readonly done: number
  readonly total: number
  /** What was done last, e.g. `piece 2 of 9`. */
  readonly step: string
}

/** How the caches of a model keep their tokens. */
export interface CacheLayout {
  /** Tokens of a page: `createCache` is given a `kvCache` with such pages. */
  readonly pageSize: number
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
  /**
   * Files beside the model in which it keeps weights, by the path that it gives for them, or a function that finds them.
   * They must stay as they are until the model is loaded.
   */
  readonly externalData?: ExternalData
  /**
   * Keys and values of past tokens stay on our side, in a cache that `createCache` makes and each run is given, so that a
   * token costs the same however many came before. The inputs and outputs that hold past and present are no more. Default
   * false: they are fed and returned, as in the file. With `{ pageSize }`, methods are compiled for caches with such pages.
   */
  readonly cache?: boolean | CacheLayout
  /**
   * With provider 'webgpu' and a cache: `generate` runs single tokens on sessions of their own, whose dispatches onnxruntime-web
   * records once and replays, for a fraction of the time on the CPU. They hold the weights a second time. Their shapes are
   * fixed, so it has to be known how many tokens there may be. Where a model does not allow it, or its first token comes out
   * different, tokens run as without; `describe()` tells why. Default: without.
   */
  readonly captureSteps?: { readonly capacity: number }
  /**
   * With provider 'webgpu' and without a cache: `sample` runs its passes on sessions of their own for the shapes of a video, whose
   * dispatches onnxruntime-web records once and replays, for a fraction of the time on the CPU. They hold the weights a second
   * time, and all values between attentions at once. Where a model does not allow it, or a pass comes out different, `sample` does
   * as without; `describe()` tells why. Default false.
   */
  readonly captureSampling?: boolean
  /**
   * In which replaced attentions compute; queries, keys and values are converted before, and outputs back. 'f16' halves what they
   * move and, where a device has matrices of halves, makes them several times as fast. Not with a `cache`. Default: as in the file.
   */
  readonly attentionDtype?: DType
  /** Passed on to onnxruntime-web. Default `logSeverityLevel` 3: errors only. */
  readonly sessionOptions?: SessionOptions
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: LoadProgress) => void
}

/** One step of a run, ready: a session, then the attentions between it and the next. */
export interface LoadedLevel {
  /** For errors, e.g. `piece 2 of 9`. */
  readonly name: string
  readonly session: InferenceSession | undefined
  /** Values fed to the session, and those that it gives. */
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attentions: readonly ReplacedAttention[]
}

/** All that a run needs. The file itself, with its weights, is no longer referred to. */
export interface LoadedModel {
  readonly engine: Engine
  readonly inputs: ReadonlyMap<string, ValueInfoProto>
  readonly outputs: readonly string[]
  /** Every attention of the graph, with what was chosen for it. */
  readonly choices: readonly Choice[]
  readonly levels: readonly LoadedLevel[]
  /** The last level that is fed a value. */
  readonly lastUse: ReadonlyMap<string, number>
  readonly host: HostCheck
  readonly location: (output: string) => OutputLocation
  /** Attentions whose past is in a cache. */
  readonly cached: readonly CachedAttention[]
  readonly captured: Captured
  readonly sampling: CapturedSampling
  /** Types of the values that pieces give, the graph's outputs among them. */
  readonly types: ReadonlyMap<string, ValueType>
}

/** Recorded runs of one token; or why there are none. */
export interface Captured {
  readonly step?: CapturedStep
  readonly capacity: number
  readonly reason: string
}

/** Recorded passes of `sample`, for shapes as they come; or why there are none. */
export interface CapturedSampling {
  readonly passes?: CapturedPasses
  readonly reason: string
}

/** Reads, checks and cuts a model, then loads its pieces and compiles the methods; what fails leaves nothing behind. */
export async function loadModel(
  runtime: Runtime,
  ort: Ort,
  bytes: Uint8Array,
  options: LoadOptions,
): Promise<LoadedModel> {
  checkAttentionDtype(options)
  const proto = parseModel(bytes)
  await readExternalData(proto, options.externalData)
  const file = readGraph(proto)
  const found = findAttentions(file)
  if (found.length === 0) throw noAttention(file)
  const choices = found.map((each) => choose(each, options))
  checkChoices(choices)
  const replaced = choices.filter(({ method }) => method)
  const given = replaced.map(({ found }) => found)
  const { graph, attentions, cached } = options.cache
    ? withCache(file, given)
    : { graph: file, attentions: given, cached: [] }
  const methods = new Map(attentions.map((found, index) => [found, replaced[index]!.method!]))
  const cut = cutGraph(graph, attentions)
  checkPast(cut, cached)
  const provider = chooseProvider(options.provider, runtime)
  checkCapture(options)
  const loader = new Loader(runtime, ort, graph, cut, methods, provider, options)
  let captured: Captured
  try {
    await loader.load()
    captured = await loader.capture(attentions, cached)
  } catch (error) {
    await release({ engine: loader.engine, levels: loader.levels, host: loader.host })
    throw error
  }
  const { engine, levels, host, location } = loader
  const { outputs } = graph
  const inputs = new Map([...graph.inputs].filter(([name]) => !graph.shapeInputs.has(name)))
  return {
    engine,
    inputs,
    outputs,
    choices,
    levels,
    lastUse: cut.lastUse,
    host,
    location,
    cached,
    captured,
    sampling: loader.sampling(),
    types: loader.types,
  }
}

/** Frees sessions and compiled methods. */
export async function release({
  engine,
  levels,
  host,
  captured,
  sampling,
}: Pick<LoadedModel, 'engine' | 'levels' | 'host'> &
  Partial<Pick<LoadedModel, 'captured' | 'sampling'>>): Promise<void> {
  await captured?.step?.dispose()
  await sampling?.passes?.dispose()
  for (const { attentions } of levels) for (const attention of attentions) attention.dispose()
  await host.dispose()
  for (const { session } of levels) if (session) await engine.release(session)
}

/** What becomes of one attention. */
export interface Choice {
  readonly found: FoundAttention
  /** Undefined: onnxruntime-web computes it. */
  readonly method: AttentionMethod | undefined
  /** Why, as part of a sentence. */
  readonly reason: string
}

/**
 * Asks about an attention. Of an operator of com.microsoft, which is made for attention, what stands in the way is an error;
 * of the other forms, which are found by looking for patterns, it is a reason to leave the attention as it is.
 */
function choose(found: FoundAttention, { attention }: LoadOptions): Choice {
  const { node } = found
  const method = attention(node)
  if (method === 'keep') return { found, method: undefined, reason: "'keep' was chosen" }
  if (typeof method !== 'object' || method === null || !('method' in method || 'prefill' in method)) {
    throw new SparseAttentionError('INVALID_OPTION', {
      message: `attention returned ${String(method)} for node ${node.name}.`,
      fix: "Return a method such as dense(), { prefill, decode }, or 'keep'.",
      where: 'attention',
    })
  }
  const { obstacle, opType, masked } = node
  if (obstacle === undefined) {
    return { found, method, reason: masked ? 'a method was chosen; each run checks the mask' : 'a method was chosen' }
  }
  if (opType === 'GroupQueryAttention' || opType === 'MultiHeadAttention') throw cannotCut(node.name, obstacle)
  return { found, method: undefined, reason: obstacle }
}

/** Nothing replaced although it was asked for is an error: nobody would notice otherwise. */
function checkChoices(choices: readonly Choice[]): void {
  const refused = choices.filter(({ found }) => found.node.obstacle !== undefined)
  const chosen = choices.some(({ method }) => method)
  const asked = refused.find(({ found, reason }) => reason === found.node.obstacle)
  if (!chosen && asked) throw cannotCut(asked.found.node.name, asked.reason)
}

/** Nothing but attention may need past keys and values that are fed no more. */
function checkPast(cut: Cut, cached: readonly CachedAttention[]): void {
  const fed = new Set([...cut.levels.flatMap(({ piece }) => piece?.inputs ?? []), ...(cut.host?.inputs ?? [])])
  for (const { found, pastKey, pastValue } of cached) {
    const needed = [pastKey, pastValue].find((value) => fed.has(value))
    if (needed !== undefined) {
      throw cannotCut(
        found.node.name,
        `its past '${needed}' is needed by other nodes than attention, so it cannot be cached`,
      )
    }
  }
}

class Loader {
  readonly engine: Engine
  readonly levels: LoadedLevel[] = []
  readonly location: (output: string) => OutputLocation
  host: HostCheck
  readonly types = new Map<string, ValueType>()
  readonly #floats: ReadonlySet<string>
  #done = 0

  constructor(
    private readonly runtime: Runtime,
    private readonly ort: Ort,
    private readonly graph: Graph,
    private readonly cut: Cut,
    private readonly methods: ReadonlyMap<FoundAttention, AttentionMethod>,
    provider: Provider,
    private readonly options: LoadOptions,
  ) {
    this.engine = new Engine(ort, runtime, provider, options.sessionOptions)
    this.#floats = floatValues(graph)
    this.location = outputLocations([...methods.keys()], options.preferredOutputLocation)
    this.host = new HostCheck(this.engine, undefined, [], [], [])
  }

  async load(): Promise<void> {
    await this.#loadHost()
    const { cache, attentionDtype } = this.options
    const pageSize = typeof cache === 'object' ? cache.pageSize : undefined
    for (const [index, level] of this.cut.levels.entries()) {
      this.options.signal?.throwIfAborted()
      const name = `piece ${index + 1} of ${this.cut.levels.length}`
      const session = level.piece && (await this.#loadPiece(level, name))
      const attentions = level.attentions.map(
        (cut) => new ReplacedAttention(this.runtime, cut, this.methods.get(cut.found)!, pageSize, attentionDtype),
      )
      const { inputs = [], outputs = [] } = level.piece ?? {}
      this.levels.push({ name, session, inputs, outputs, attentions })
      if (session) this.#progress(name)
      for (const attention of attentions) {
        await this.#prepare(attention)
        this.#progress(`attention ${attention.node.name}`)
      }
    }
  }

  /** Records runs of one token where that is wanted and can be. */
  async capture(attentions: readonly FoundAttention[], cached: readonly CachedAttention[]): Promise<Captured> {
    const { captureSteps, signal } = this.options
    const capacity = captureSteps?.capacity ?? 0
    const not = (reason: string) => ({ capacity, reason })
    if (!captureSteps) return not('captureSteps is not set')
    if (this.engine.provider !== 'webgpu') return not('the pieces run on the CPU')
    if (cached.length === 0) return not('the model is not loaded for a cache')
    const fixed = fixedCut(this.graph, attentions, capacity)
    if ('reason' in fixed) return not(fixed.reason)
    try {
      const step = await CapturedStep.create(this.engine, fixed, this.#replaced())
      return { step, capacity, reason: 'single tokens are recorded' }
    } catch (error) {
      rethrowUnrelated(error, this.engine.runtime, signal)
      return not(`onnxruntime-web cannot record it: ${reasonOf(error)}`)
    }
  }

  /** Makes recordings of passes possible where that is wanted and can be. */
  sampling(): CapturedSampling {
    const { captureSampling = false, cache } = this.options
    if (!captureSampling) return { reason: 'captureSampling is not set' }
    if (this.engine.provider !== 'webgpu') return { reason: 'the pieces run on the CPU' }
    if (cache) return { reason: 'the model is loaded for a cache' }
    const passes = new CapturedPasses(
      this.engine,
      { graph: this.graph, cut: this.cut, levels: this.levels },
      this.#replaced(),
    )
    return { passes, reason: passes.reason }
  }

  /** Replaced attentions by layer. */
  #replaced(): ReadonlyMap<number, ReplacedAttention> {
    return new Map(this.levels.flatMap(({ attentions }) => attentions.map((each) => [each.node.layer, each])))
  }

  #progress(step: string): void {
    const { signal, onProgress } = this.options
    signal?.throwIfAborted()
    const total = this.cut.levels.reduce((sum, { piece, attentions }) => sum + (piece ? 1 : 0) + attentions.length, 0)
    onProgress?.({ done: ++this.#done, total, step })
  }

  async #loadHost(): Promise<void> {
    const { host } = this.cut
    if (!host) return
    const engine = new Engine(this.ort, this.runtime, 'wasm')
    const shapes = host.inputs.map((name): [string, ValueType] => [
      name,
      { elemType: DataType.INT64, dims: [undefined] },
    ])
    const session = await engine.load(pieceModel(this.graph, host, new Map(shapes)), 'masks and sequence lengths')
    this.host = new HostCheck(engine, session, host.inputs, host.outputs, [...this.methods.keys()])
  }

  async #loadPiece(level: Level, name: string): Promise<InferenceSession> {
    const bytes = pieceModel(this.graph, level.piece!, this.types)
    const session = await this.engine.load(bytes, name, this.#onGpu(level))
    for (const [value, type] of outputTypes(session)) this.types.set(value, type)
    return session
  }

  /** Outputs of a piece that stay on the GPU: floats that are used there again, or wanted there. */
  #onGpu({ piece, attentions }: Level): string[] {
    const ours = new Set(attentions.flatMap(({ q, k, v }) => [q, k, v]))
    const stays = (value: string) => this.cut.lastUse.has(value) || this.location(value) === 'gpu-buffer'
    return piece!.outputs.filter((value) => ours.has(value) || (this.#floats.has(value) && stays(value)))
  }

  /** Compiles an attention where the file tells its head dim, and notes the type of its output. */
  async #prepare(attention: ReplacedAttention): Promise<void> {
    const { node, cut } = attention
    const query = this.types.get(cut.q)
    if (!query) throw cannotCut(node.name, 'its query is not a tensor')
    const types = [cut.q, cut.k, cut.v].map((value) => this.types.get(value)?.elemType)
    if (new Set(types).size > 1) {
      const names = types.map((type) => (type === undefined ? undefined : tensorTypeOf(type)) ?? 'unknown')
      throw cannotCut(node.name, `its query, key and value are ${names.join(', ')}, not of one type`)
    }
    const dtype: DType = dtypeOf(tensorTypeOf(query.elemType) ?? `of the ONNX type ${query.elemType}`, node.name)
    const { out, q } = cut.layouts
    const headDim = headDimOf(query.dims, node.queryHeads) ?? node.headDim
    if (headDim !== undefined) await attention.prepare(headDim, dtype)
    const heads = out === 'BLE' ? [] : [node.queryHeads]
    const [batch, second, third] = query.dims ?? []
    const length = query.dims?.length === 4 && q === 'BHLD' ? third : second
    const width = headDim === undefined ? undefined : out === 'BLE' ? headDim * node.queryHeads : headDim
    const dims = out === 'BHLD' ? [batch, ...heads, length, width] : [batch, length, ...heads, width]
    this.types.set(cut.output, { elemType: query.elemType, dims })
  }
}

function checkCapture({ captureSteps }: LoadOptions): void {
  const { capacity } = captureSteps ?? { capacity: 1 }
  if (Number.isSafeInteger(capacity) && capacity >= 1 && capacity <= 2 ** 22) return
  throw new SparseAttentionError('INVALID_OPTION', {
    message: `captureSteps has the capacity ${capacity}.`,
    fix: 'Use the largest number of tokens of a conversation, an integer from 1 to 4194304.',
    where: 'captureSteps',
  })
}

function checkAttentionDtype({ attentionDtype, cache }: LoadOptions): void {
  const known = attentionDtype === undefined || attentionDtype === 'f16' || attentionDtype === 'f32'
  if (known && !(attentionDtype && cache)) return
  throw new SparseAttentionError('INVALID_OPTION', {
    message: known
      ? `attentionDtype is ${attentionDtype} for a model with a cache.`
      : `attentionDtype is '${attentionDtype as string}'.`,
    fix: known ? 'Leave it out: keys and values are kept as in the file.' : "Use 'f16' or 'f32', or leave it out.",
    where: 'attentionDtype',
  })
}

function headDimOf(dims: ValueType['dims'], heads: number): number | undefined {
  const last = dims?.at(-1)
  if (typeof last !== 'number') return undefined
  if (dims?.length === 4) return last
  return last % heads === 0 ? last / heads : undefined
}

function outputLocations(
  replaced: readonly FoundAttention[],
  preferred: LoadOptions['preferredOutputLocation'],
): (output: string) => OutputLocation {
  if (typeof preferred === 'string') return () => preferred
  const presents = new Set(replaced.flatMap(({ args }) => [args.presentKey, args.presentValue]))
  return (output) => preferred?.[output] ?? (presents.has(output) ? 'gpu-buffer' : 'cpu')
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

function noAttention(graph: Graph): SparseAttentionError {
  const similar = graph.nodes.find(({ proto }) => proto.opType.includes('Attention') || proto.opType === 'Softmax')
  const seen = similar ? ` Node ${similar.label} is ${similar.proto.domain || 'ai.onnx'}.${similar.proto.opType}.` : ''
  return new SparseAttentionError('UNSUPPORTED', {
    message: `The graph has no attention of a form that is known here.${seen}`,
    fix: 'Export it with torch.onnx, or with fused attention, e.g. by the transformer optimizer of onnxruntime.',
    where: similar?.label ?? 'graph',
  })
}
