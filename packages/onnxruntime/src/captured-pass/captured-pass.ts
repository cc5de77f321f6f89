import type { AttentionContext } from '@sparse-attention/core'
import type { Tensor as OrtTensor } from 'onnxruntime-web'
import type { BufferPool } from '../buffer-pool.js'
import { bufferOf, type CapturedPiece, CapturedPieces } from '../captured-step/captured-pieces.js'
import type { Cut, CutAttention } from '../cut.js'
import type { Graph } from '../graph.js'
import type { HostFacts } from '../host-check.js'
import type { ModelState } from '../model-state.js'
import { DataType, elemTypeOf, makeValueInfo } from '../onnx.js'
import type { Engine } from '../ort.js'
import type { AttentionCall, AttentionMethod, ReplacedAttention } from '../replaced-attention.js'

/** A model, cut, before its shapes are known. */
export interface CapturableGraph {
  readonly graph: Graph
  readonly cut: Cut
}

/** One pass through a model with the shapes that were recorded. */
export interface PassCall {
  /** One for each input. */
  readonly feeds: Readonly<Record<string, OrtTensor>>
  readonly facts: HostFacts
  /** What methods are told; the layer is each attention's own. */
  readonly context: Omit<AttentionContext, 'layer'>
  readonly method: AttentionMethod | undefined
  readonly state: ModelState | undefined
  readonly pool: BufferPool
  readonly signal: AbortSignal | undefined
}

interface PassLevel {
  readonly name: string
  readonly piece: CapturedPiece | undefined
  readonly attentions: readonly ReplacedAttention[]
}

/**
 * Passes through a model whose inputs have the same shapes every time, as a diffusion model's have from step to step: its pieces are
 * recorded once and replayed, only attention is recorded anew, nothing is waited for, and one output is read back.
 */
export class CapturedPass {
  readonly #levels: PassLevel[] = []
  readonly #pieces: CapturedPieces
  /** What the inputs hold. */
  readonly #fed = new Map<string, OrtTensor>()

  private constructor(
    private readonly engine: Engine,
    graph: Graph,
    private readonly output: string,
  ) {
    this.#pieces = new CapturedPieces(graph, engine)
  }

  /**
   * Loads and records the pieces for the shapes of a call. Rejects where the model, or onnxruntime-web, does not allow it.
   *
   * @param attentions of the model, by layer
   * @param output the one that is read back, f32
   */
  static async create(
    engine: Engine,
    { graph, cut }: CapturableGraph,
    attentions: ReadonlyMap<number, ReplacedAttention>,
    call: PassCall,
    output: string,
  ): Promise<CapturedPass> {
    const { feeds, facts, pool, signal } = call
    const inputs = new Map(
      [...graph.inputs].map(([name, info]) => {
        const fed = feeds[name]
        return [name, fed ? makeValueInfo(name, elemTypeOf(fed.type), fed.dims) : info]
      }),
    )
    const pass = new CapturedPass(engine, { ...graph, inputs }, output)
    const pieces = pass.#pieces
    try {
      for (const [name, { type, dims }] of Object.entries(feeds)) {
        if (cut.lastUse.has(name)) await pieces.allocate(name, { elemType: elemTypeOf(type), dims })
      }
      for (const [index, { piece, attentions: cuts }] of cut.levels.entries()) {
        signal?.throwIfAborted()
        const name = `captured piece ${index + 1} of ${cut.levels.length}`
        const used = piece && { ...piece, outputs: piece.outputs.filter((x) => cut.lastUse.has(x) || x === output) }
        const needed = used && used.outputs.length > 0
        const ours = cuts.map(({ found }) => attentions.get(found.node.layer)!)
        pass.#levels.push({ name, piece: needed ? await pieces.load(used, name) : undefined, attentions: ours })
        for (const attention of ours) {
          const told = { ...pass.#tensorsOf(attention.cut), facts, pastLength: 0, cache: undefined, pool }
          const { dtype, dims } = attention.output(told)
          const elemType = dtype === 'f32' ? DataType.FLOAT : DataType.FLOAT16
          await pieces.allocate(attention.cut.output, { elemType, dims })
        }
      }
      const type = pieces.tensors.get(output)?.type
      if (type !== 'float32') throw new Error(`its output '${output}' is ${type ?? 'not computed'}`)
      return pass
    } catch (error) {
      await pass.dispose()
      throw error
    }
  }

  /** Hands a pass to the GPU. Nothing is waited for; what the output holds is read with `read`. */
  async submit({ feeds, facts, context, method, state, pool, signal }: PassCall): Promise<void> {
    this.#feed(feeds)
    for (const { piece, attentions } of this.#levels) {
      signal?.throwIfAborted()
      if (piece) await this.#pieces.replay(piece)
      for (const attention of attentions) {
        const call: AttentionCall = {
          ...this.#tensorsOf(attention.cut),
          ...{ facts, pastLength: 0, cache: undefined, method, context, state, pool, signal, onAttention: undefined },
        }
        await attention.submitInto(call, bufferOf(this.#pieces.tensors.get(attention.cut.output)!))
      }
    }
  }

  /** The output of the last pass, and its dims. */
  async read(): Promise<{ readonly values: Float32Array<ArrayBuffer>; readonly dims: readonly number[] }> {
    const tensor = this.#pieces.tensors.get(this.output)!
    const { dims } = tensor
    const sizeBytes = dims.reduce((product, dim) => product * dim, 4)
    const bytes = await this.engine.runtime.readBytes({ buffer: bufferOf(tensor), offsetBytes: 0, sizeBytes })
    return { values: new Float32Array(bytes), dims }
  }

  /** What was fed may be changed by its owner from here on. */
  forget(): void {
    this.#fed.clear()
  }

  #feed(feeds: Readonly<Record<string, OrtTensor>>): void {
    const { queue } = this.engine.runtime.device
    for (const [name, tensor] of Object.entries(feeds)) {
      const held = this.#pieces.tensors.get(name)
      // Tables and the like are the same tensor in every pass of a video.
      if (!held || this.#fed.get(name) === tensor) continue
      const data = tensor.data as unknown as ArrayBufferView<ArrayBuffer>
      queue.writeBuffer(bufferOf(held), 0, data.buffer, data.byteOffset, data.byteLength)
      this.#fed.set(name, tensor)
    }
  }

  #tensorsOf({ q, k, v }: CutAttention): Pick<AttentionCall, 'tensors'> {
    const { tensors } = this.#pieces
    return { tensors: { q: tensors.get(q)!, k: tensors.get(k)!, v: tensors.get(v)! } }
  }

  async dispose(): Promise<void> {
    this.#levels.length = 0
    await this.#pieces.dispose()
  }
}
