import {
  bytesPerElement,
  type DType,
  halvesToFloats,
  type KVCache,
  type Runtime,
  type Tensor,
  tensorView,
} from '@sparse-attention/core'
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-web'
import type { CutAttention, Level } from '../cut.js'
import { roleOf } from '../generate/language-feeds.js'
import type { Graph } from '../graph.js'
import { DataType, makeNode, makeValueInfo, modelLike, serializeModel, tensorTypeOf } from '../onnx.js'
import { type Engine, outputTypes } from '../ort.js'
import { pieceModel, type ValueType } from '../piece-model.js'
import { type AttentionMethod, dtypeOf, type ReplacedAttention } from '../replaced-attention.js'
import { type FixedGraph, pastLengthInput } from './fixed-graph.js'

const MAP_READ = 0x1
const MAP_READ_COPY_DST = 0x01 | 0x08

/** A piece whose dispatches onnxruntime-web has recorded, and the attentions behind it. */
interface CapturedLevel {
  readonly name: string
  readonly session: InferenceSession | undefined
  /** Tensors of the session's inputs, bound in its first run. */
  readonly feeds: Readonly<Record<string, OrtTensor>>
  readonly outputs: readonly string[]
  readonly attentions: readonly CapturedAttention[]
}

interface CapturedAttention {
  readonly replaced: ReplacedAttention
  readonly q: Tensor
  readonly k: Tensor
  readonly v: Tensor
  readonly out: Tensor
  readonly lse: Tensor
}

export interface CapturedCall {
  readonly token: number
  /** Tokens that came before. */
  readonly pastLength: number
  readonly cache: (layer: number) => KVCache | undefined
  readonly method: AttentionMethod | undefined
  readonly signal: AbortSignal | undefined
}

/**
 * Runs of one token after another on sessions with fixed shapes. What they compute is recorded by onnxruntime-web once and replayed;
 * all values between pieces and attentions stay in the same buffers, and only the logits are read back.
 *
 * Every buffer is one that onnxruntime-web has made: it forgets others after the run that binds them (version 1.30).
 */
export class CapturedStep {
  readonly #levels: CapturedLevel[] = []
  readonly #tensors = new Map<string, OrtTensor>()
  readonly #owned: { dispose(): void }[] = []
  /** Sessions whose outputs are memory of ours. */
  readonly #memories: InferenceSession[] = []
  #logits:
    | { readonly buffer: GPUBuffer; readonly staging: GPUBuffer; readonly sizeBytes: number; readonly half: boolean }
    | undefined

  private constructor(
    private readonly graph: Graph,
    private readonly plain: Engine,
    private readonly capturing: Engine,
    private readonly runtime: Runtime,
  ) {}

  /**
   * Loads and records the pieces. Rejects where the model, or onnxruntime-web, does not allow it.
   *
   * @param attentions of the model, by layer
   */
  static async create(
    engine: Engine,
    { cut, graph }: FixedGraph,
    attentions: ReadonlyMap<number, ReplacedAttention>,
  ): Promise<CapturedStep> {
    const step = new CapturedStep(graph, engine, engine.capturing(), engine.runtime)
    try {
      const types = new Map<string, ValueType>()
      const fed = [...graph.inputs].flatMap(([name, info]) =>
        cut.levels.some(({ piece }) => piece?.inputs.includes(name)) ? [[name, info] as const] : [],
      )
      for (const [name] of fed) {
        await step.#allocate(name, { elemType: DataType.INT64, dims: roleOf(name) ? [1, 1] : [1] })
      }
      for (const [index, level] of cut.levels.entries()) {
        await step.#load(level, types, `captured piece ${index + 1} of ${cut.levels.length}`, attentions)
      }
      step.#prepareLogits()
      return step
    } catch (error) {
      await step.dispose()
      throw error
    }
  }

  /** @returns f32 [vocabulary] */
  async run({ token, pastLength, cache, method, signal }: CapturedCall): Promise<Float32Array> {
    const { device } = this.runtime
    for (const [name, tensor] of this.#tensors) {
      const role = roleOf(name)
      if (name !== pastLengthInput && role === undefined) continue
      const value = BigInt64Array.of(BigInt(role === 'ids' ? token : pastLength))
      device.queue.writeBuffer(bufferOf(tensor), 0, value)
    }
    for (const { session, feeds, outputs, name, attentions } of this.#levels) {
      signal?.throwIfAborted()
      if (session) await this.#replay(session, feeds, outputs, name)
      if (attentions.length === 0) continue
      const compiled = await Promise.all(
        attentions.map(({ replaced, q }) => replaced.forStep(q, cache(replaced.node.layer), method)),
      )
      const encoder = device.createCommandEncoder({ label: `attention after ${name}` })
      for (const [i, { replaced, ...tensors }] of attentions.entries()) {
        replaced.encodeStep(encoder, compiled[i]!, tensors, cache(replaced.node.layer))
      }
      device.queue.submit([encoder.finish()])
    }
    return this.#readLogits()
  }

  async #replay(
    session: InferenceSession,
    feeds: CapturedLevel['feeds'],
    outputs: readonly string[],
    name: string,
  ): Promise<Readonly<Record<string, OrtTensor>>> {
    const results = await this.capturing.run(session, feeds, outputs, name)
    for (const [value, tensor] of Object.entries(results)) {
      // The same buffer every time; what is new is a handle of it.
      if (this.#tensors.has(value)) tensor.dispose()
    }
    return results
  }

  async #load(
    { piece, attentions }: Level,
    types: Map<string, ValueType>,
    name: string,
    replaced: ReadonlyMap<number, ReplacedAttention>,
  ): Promise<void> {
    let session: InferenceSession | undefined
    let feeds: Record<string, OrtTensor> = {}
    const captured: CapturedAttention[] = []
    if (piece) {
      session = await this.capturing.load(pieceModel(this.graph, piece, types), name, piece.outputs)
      for (const [value, type] of outputTypes(session)) types.set(value, type)
      feeds = Object.fromEntries(piece.inputs.map((input) => [input, this.#tensors.get(input)!]))
      this.#levels.push({ name, session, feeds, outputs: piece.outputs, attentions: captured })
      // The first run binds, the second records, the third replays.
      for (let run = 0; run < 3; run++) {
        const results = await this.#replay(session, feeds, piece.outputs, name)
        for (const [value, tensor] of Object.entries(results)) if (!this.#tensors.has(value)) this.#keep(value, tensor)
      }
    }
    if (!session) this.#levels.push({ name, session, feeds, outputs: [], attentions: captured })
    for (const cut of attentions) {
      captured.push(await this.#attention(cut, replaced.get(cut.found.node.layer)!, types))
    }
  }

  async #attention(
    { q, k, v, output, layouts, found: { node } }: CutAttention,
    replaced: ReplacedAttention,
    types: Map<string, ValueType>,
  ): Promise<CapturedAttention> {
    const query = this.#tensors.get(q)!
    const dtype: DType = dtypeOf(query.type, node.name)
    const elements = query.dims.reduce((product, dim) => product * dim, 1)
    const headDim = elements / node.queryHeads
    const axes = {
      BLE: [1, 1, elements],
      BLHD: [1, 1, node.queryHeads, headDim],
      BHLD: [1, node.queryHeads, 1, headDim],
    }
    const dims = axes[layouts.out === 'BHDL' ? 'BHLD' : layouts.out]
    const type = { elemType: dtype === 'f32' ? DataType.FLOAT : DataType.FLOAT16, dims }
    types.set(output, type)
    const out = await this.#allocate(output, type)
    const lse = this.runtime.tensor('f32', [1, node.queryHeads, 1])
    this.#owned.push(lse)
    // Of one token every layout lies the same.
    const heads = (tensor: OrtTensor, count: number) => tensorView(bufferOf(tensor), dtype, [1, count, 1, headDim])
    return {
      replaced,
      q: heads(query, node.queryHeads),
      k: heads(this.#tensors.get(k)!, node.kvHeads),
      v: heads(this.#tensors.get(v)!, node.kvHeads),
      out: heads(out, node.queryHeads),
      lse,
    }
  }

  /** A tensor of zeros in memory of onnxruntime-web's. */
  async #allocate(name: string, { elemType, dims }: ValueType): Promise<OrtTensor> {
    const sizes = dims as readonly number[]
    const type = tensorTypeOf(elemType)!
    const count = sizes.reduce((product, dim) => product * dim, 1)
    const data =
      type === 'int64'
        ? new BigInt64Array(count)
        : type === 'float32'
          ? new Float32Array(count)
          : new Uint16Array(count)
    const model = modelLike(this.graph.model, {
      input: [makeValueInfo('zeros', elemType, sizes)],
      output: [makeValueInfo('memory', elemType, sizes)],
      node: [makeNode('memory', 'Identity', ['zeros'], ['memory'])],
      initializer: [],
    })
    const session = await this.plain.load(serializeModel(model), name, ['memory'])
    this.#memories.push(session)
    const zeros = new this.plain.ort.Tensor(type as 'float32', data as Float32Array, sizes)
    const { memory } = await this.plain.run(session, { zeros }, ['memory'], name)
    this.#keep(name, memory!)
    return memory!
  }

  #keep(name: string, tensor: OrtTensor): void {
    this.#tensors.set(name, tensor)
    this.#owned.push(tensor)
  }

  #prepareLogits(): void {
    const logits = this.#tensors.get('logits')!
    const sizeBytes = logits.dims.at(-1)! * bytesPerElement[dtypeOf(logits.type, 'logits')]
    const size = Math.ceil(sizeBytes / 4) * 4
    const staging = this.runtime.device.createBuffer({ label: 'logits', size, usage: MAP_READ_COPY_DST })
    this.#owned.push({ dispose: () => staging.destroy() })
    this.#logits = { buffer: bufferOf(logits), staging, sizeBytes, half: logits.type === 'float16' }
  }

  async #readLogits(): Promise<Float32Array> {
    const { buffer, staging, sizeBytes, half } = this.#logits!
    const { device } = this.runtime
    const encoder = device.createCommandEncoder({ label: 'read logits' })
    encoder.copyBufferToBuffer(buffer, 0, staging, 0, staging.size)
    device.queue.submit([encoder.finish()])
    await this.runtime.whileAlive(staging.mapAsync(MAP_READ))
    try {
      const bytes = staging.getMappedRange().slice(0, sizeBytes)
      return half ? halvesToFloats(new Uint16Array(bytes)) : new Float32Array(bytes)
    } finally {
      staging.unmap()
    }
  }

  async dispose(): Promise<void> {
    // Tensors first: they are freed by the sessions that made them.
    for (const each of this.#owned.splice(0)) each.dispose()
    for (const { session } of this.#levels.splice(0)) if (session) await this.capturing.release(session)
    for (const session of this.#memories.splice(0)) await this.plain.release(session)
    this.#tensors.clear()
  }
}

function bufferOf(tensor: OrtTensor): GPUBuffer {
  return tensor.gpuBuffer as unknown as GPUBuffer
}
