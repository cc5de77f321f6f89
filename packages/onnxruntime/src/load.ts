import { type DType, type Runtime, SparseAttentionError } from '@sparse-attention/core'
import type { InferenceSession } from 'onnxruntime-web'
import { type AttentionNode, checkReplaceable, type FoundAttention, findAttentions } from './attention-node.js'
import { type Cut, cutGraph, type Level } from './cut.js'
import { cannotCut } from './errors.js'
import { type Graph, readGraph } from './graph.js'
import { LengthCheck } from './lengths.js'
import { type Dim, parseModel, tensorTypeOf, type ValueInfoProto } from './onnx.js'
import { Engine, type Ort, outputTypes, type Provider, type SessionOptions } from './ort.js'
import { pieceModel, type ValueType } from './piece-model.js'
import { type AttentionMethod, dtypeOf, ReplacedAttention } from './replaced-attention.js'
import { floatValues } from './value-types.js'

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
  /** Every attention of the graph, kept ones included. */
  readonly nodes: readonly AttentionNode[]
  readonly levels: readonly LoadedLevel[]
  /** The last level that is fed a value. */
  readonly lastUse: ReadonlyMap<string, number>
  readonly lengths: LengthCheck | undefined
  readonly location: (output: string) => OutputLocation
}

/** Reads, checks and cuts a model, then loads its pieces and compiles the methods; what fails leaves nothing behind. */
export async function loadModel(
  runtime: Runtime,
  ort: Ort,
  bytes: Uint8Array,
  options: LoadOptions,
): Promise<LoadedModel> {
  const graph = readGraph(parseModel(bytes))
  const nodes = findAttentions(graph)
  if (nodes.length === 0) throw noAttention(graph)
  const methods = chooseMethods(graph, nodes, options)
  const cut = cutGraph(graph, [...methods.keys()])
  const provider = chooseProvider(options.provider, runtime)
  const loader = new Loader(runtime, ort, graph, cut, methods, provider, options)
  try {
    await loader.load()
  } catch (error) {
    await release(loader)
    throw error
  }
  const { engine, levels, lengths, location } = loader
  const { inputs, outputs } = graph
  return {
    engine,
    inputs,
    outputs,
    nodes: nodes.map(({ node }) => node),
    levels,
    lastUse: cut.lastUse,
    lengths,
    location,
  }
}

/** Frees sessions and compiled methods. */
export async function release({
  engine,
  levels,
  lengths,
}: Pick<LoadedModel, 'engine' | 'levels' | 'lengths'>): Promise<void> {
  for (const { attentions } of levels) for (const attention of attentions) attention.dispose()
  await lengths?.dispose()
  for (const { session } of levels) if (session) await engine.release(session)
}

/** Asks about each attention, and refuses what cannot be replaced. */
function chooseMethods(
  graph: Graph,
  nodes: readonly FoundAttention[],
  { attention }: LoadOptions,
): Map<FoundAttention, AttentionMethod> {
  const methods = new Map<FoundAttention, AttentionMethod>()
  for (const found of nodes) {
    const choice = attention(found.node)
    if (choice === 'keep') continue
    if (typeof choice !== 'object' || choice === null || !('method' in choice || 'prefill' in choice)) {
      throw new SparseAttentionError('INVALID_OPTION', {
        message: `attention returned ${String(choice)} for node ${found.node.name}.`,
        fix: "Return a method such as dense(), { prefill, decode }, or 'keep'.",
        where: 'attention',
      })
    }
    checkReplaceable(found, graph)
    methods.set(found, choice)
  }
  return methods
}

class Loader {
  readonly engine: Engine
  readonly levels: LoadedLevel[] = []
  readonly location: (output: string) => OutputLocation
  lengths: LengthCheck | undefined
  readonly #types = new Map<string, ValueType>()
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
  }

  async load(): Promise<void> {
    await this.#loadLengths()
    for (const [index, level] of this.cut.levels.entries()) {
      this.options.signal?.throwIfAborted()
      const name = `piece ${index + 1} of ${this.cut.levels.length}`
      const session = level.piece && (await this.#loadPiece(level, name))
      const attentions = level.attentions.map(
        (cut) => new ReplacedAttention(this.runtime, cut, this.methods.get(cut.found)!),
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

  #progress(step: string): void {
    const { signal, onProgress } = this.options
    signal?.throwIfAborted()
    const total = this.cut.levels.reduce((sum, { piece, attentions }) => sum + (piece ? 1 : 0) + attentions.length, 0)
    onProgress?.({ done: ++this.#done, total, step })
  }

  async #loadLengths(): Promise<void> {
    const { lengths } = this.cut
    if (!lengths) return
    const what = 'the sequence lengths'
    const engine = new Engine(this.ort, this.runtime, 'wasm')
    const session = await engine.load(pieceModel(this.graph, lengths, new Map()), what)
    this.lengths = new LengthCheck(engine, session, lengths.inputs, lengths.outputs, [...this.methods.keys()])
  }

  async #loadPiece(level: Level, name: string): Promise<InferenceSession> {
    const bytes = pieceModel(this.graph, level.piece!, this.#types)
    const session = await this.engine.load(bytes, name, this.#onGpu(level))
    for (const [value, type] of outputTypes(session)) this.#types.set(value, type)
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
    const query = this.#types.get(cut.q)
    if (!query) throw cannotCut(node.name, 'its query is not a tensor')
    const dtype: DType = dtypeOf(tensorTypeOf(query.elemType) ?? `of the ONNX type ${query.elemType}`, node.name)
    const width = query.dims?.[2]
    const known = typeof width === 'number' && width % node.queryHeads === 0 ? width / node.queryHeads : node.headDim
    if (known !== undefined) await attention.prepare(known, dtype)
    const unknown: Dim[] = [undefined, undefined, undefined]
    this.#types.set(cut.output, { elemType: query.elemType, dims: query.dims?.length === 3 ? query.dims : unknown })
  }
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
  const similar = graph.nodes.find(({ proto }) => proto.opType.includes('Attention'))
  const seen = similar ? ` Node ${similar.label} is ${similar.proto.domain || 'ai.onnx'}.${similar.proto.opType}.` : ''
  return new SparseAttentionError('UNSUPPORTED', {
    message: `The graph has no com.microsoft GroupQueryAttention or MultiHeadAttention node.${seen}`,
    fix: "Export it with fused attention, e.g. by onnxruntime's transformer optimizer or its model builder.",
    where: similar?.label ?? 'graph',
  })
}
