import {
  allocateBuffer,
  bytesPerElement,
  type DType,
  halvesToFloats,
  type KVCache,
  type Runtime,
  type Tensor,
  tensorView,
  whenAllocated,
} from '@sparse-attention/core'
import type { Tensor as OrtTensor } from 'onnxruntime-web'
import type { CutAttention, Level } from '../cut.js'
import type { HostClock } from '../generate/host-times.js'
import { roleOf } from '../generate/language-feeds.js'
import type { Graph } from '../graph.js'
import { DataType } from '../onnx.js'
import type { Engine } from '../ort.js'
import { type AttentionMethod, dtypeOf, type ReplacedAttention } from '../replaced-attention.js'
import { submit } from '../submit.js'
import { bufferOf, type CapturedPiece, CapturedPieces } from './captured-pieces.js'
import { type FixedGraph, pastLengthInput } from './fixed-graph.js'

const MAP_READ = 0x1
const MAP_READ_COPY_DST = 0x01 | 0x08

/** A piece, where there is one, and the attentions behind it. */
interface CapturedLevel {
  readonly name: string
  readonly piece: CapturedPiece | undefined
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
  readonly clock: HostClock | undefined
}

/**
 * Runs of one token after another on recorded pieces; only appending and attention are recorded anew, and only the logits are
 * read back.
 */
export class CapturedStep {
  readonly #levels: CapturedLevel[] = []
  readonly #pieces: CapturedPieces
  readonly #runtime: Runtime
  readonly #owned: { readonly buffer: GPUBuffer; dispose(): void }[] = []
  #logits:
    | { readonly buffer: GPUBuffer; readonly staging: GPUBuffer; readonly sizeBytes: number; readonly half: boolean }
    | undefined

  private constructor(graph: Graph, engine: Engine) {
    this.#pieces = new CapturedPieces(graph, engine)
    this.#runtime = engine.runtime
  }

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
    const step = new CapturedStep(graph, engine)
    try {
      const fed = [...graph.inputs].flatMap(([name, info]) =>
        cut.levels.some(({ piece }) => piece?.inputs.includes(name)) ? [[name, info] as const] : [],
      )
      for (const [name] of fed) {
        await step.#pieces.allocate(name, { elemType: DataType.INT64, dims: roleOf(name) ? [1, 1] : [1] })
      }
      for (const [index, level] of cut.levels.entries()) {
        await step.#load(level, `captured piece ${index + 1} of ${cut.levels.length}`, attentions)
      }
      step.#prepareLogits()
      const buffers = step.#owned.map(({ buffer }) => buffer)
      // What fails is disposed of below, as the rest.
      await whenAllocated(engine.runtime.device, { buffers, dispose: () => {} })
      return step
    } catch (error) {
      await step.dispose()
      throw error
    }
  }

  /** @returns f32 [vocabulary] */
  async run({ token, pastLength, cache, method, signal, clock }: CapturedCall): Promise<Float32Array> {
    const { device } = this.#runtime
    clock?.start(true)
    for (const [name, tensor] of this.#pieces.tensors) {
      const role = roleOf(name)
      if (name !== pastLengthInput && role === undefined) continue
      const value = BigInt64Array.of(BigInt(role === 'ids' ? token : pastLength))
      device.queue.writeBuffer(bufferOf(tensor), 0, value)
    }
    const checks: Promise<void>[] = []
    for (const { piece, name, attentions } of this.#levels) {
      signal?.throwIfAborted()
      const recordPiece = piece && (await this.#pieces.replay(piece))
      const compiled = await Promise.all(
        attentions.map(({ replaced, q }) => replaced.forStep(q, cache(replaced.node.layer), method)),
      )
      const check = submit(this.#runtime, name, (encoder) => {
        recordPiece?.(encoder)
        if (piece) clock?.endPiece()
        for (const [i, { replaced, ...tensors }] of attentions.entries()) {
          replaced.encodeStep(encoder, compiled[i]!, tensors, cache(replaced.node.layer))
        }
      })
      checks.push(check)
      if (attentions.length > 0) clock?.endAttentions()
    }
    const logits = await this.#readLogits()
    await Promise.all(checks)
    clock?.endLogits()
    return logits
  }

  async #load(
    { piece, attentions }: Level,
    name: string,
    replaced: ReadonlyMap<number, ReplacedAttention>,
  ): Promise<void> {
    const captured: CapturedAttention[] = []
    this.#levels.push({ name, piece: piece && (await this.#pieces.load(piece, name)), attentions: captured })
    for (const cut of attentions) captured.push(await this.#attention(cut, replaced.get(cut.found.node.layer)!))
  }

  async #attention(
    { q, k, v, output, layouts, found: { node } }: CutAttention,
    replaced: ReplacedAttention,
  ): Promise<CapturedAttention> {
    const { tensors } = this.#pieces
    const query = tensors.get(q)!
    const dtype: DType = dtypeOf(query.type, node.name)
    const elements = query.dims.reduce((product, dim) => product * dim, 1)
    const headDim = elements / node.queryHeads
    const axes = {
      BLE: [1, 1, elements],
      BLHD: [1, 1, node.queryHeads, headDim],
      BHLD: [1, node.queryHeads, 1, headDim],
    }
    const dims = axes[layouts.out === 'BHDL' ? 'BHLD' : layouts.out]
    const elemType = dtype === 'f32' ? DataType.FLOAT : DataType.FLOAT16
    const out = await this.#pieces.allocate(output, { elemType, dims })
    const lse = this.#runtime.tensor('f32', [1, node.queryHeads, 1])
    this.#owned.push(lse)
    // Of one token every layout lies the same.
    const heads = (tensor: OrtTensor, count: number) => tensorView(bufferOf(tensor), dtype, [1, count, 1, headDim])
    return {
      replaced,
      q: heads(query, node.queryHeads),
      k: heads(tensors.get(k)!, node.kvHeads),
      v: heads(tensors.get(v)!, node.kvHeads),
      out: heads(out, node.queryHeads),
      lse,
    }
  }

  #prepareLogits(): void {
    const logits = this.#pieces.tensors.get('logits')!
    const sizeBytes = logits.dims.at(-1)! * bytesPerElement[dtypeOf(logits.type, 'logits')]
    const size = Math.ceil(sizeBytes / 4) * 4
    const staging = allocateBuffer(this.#runtime.device, { label: 'logits', size, usage: MAP_READ_COPY_DST })
    this.#owned.push({ buffer: staging, dispose: () => staging.destroy() })
    this.#logits = { buffer: bufferOf(logits), staging, sizeBytes, half: logits.type === 'float16' }
  }

  async #readLogits(): Promise<Float32Array> {
    const { buffer, staging, sizeBytes, half } = this.#logits!
    const { device } = this.#runtime
    const encoder = device.createCommandEncoder({ label: 'read logits' })
    encoder.copyBufferToBuffer(buffer, 0, staging, 0, staging.size)
    device.queue.submit([encoder.finish()])
    await this.#runtime.whileAlive(staging.mapAsync(MAP_READ))
    try {
      const bytes = staging.getMappedRange().slice(0, sizeBytes)
      return half ? halvesToFloats(new Uint16Array(bytes)) : new Float32Array(bytes)
    } finally {
      staging.unmap()
    }
  }

  async dispose(): Promise<void> {
    for (const each of this.#owned.splice(0)) each.dispose()
    this.#levels.length = 0
    await this.#pieces.dispose()
  }
}
