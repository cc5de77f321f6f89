import { type AttentionContext, halvesToFloats, relativeError } from '@sparse-attention/core'
import type { Tensor as OrtTensor } from 'onnxruntime-web'
import type { BufferPool } from '../buffer-pool.js'
import { bufferOf, type CapturedPiece, CapturedPieces } from '../captured-step/captured-pieces.js'
import type { Cut, CutAttention } from '../cut.js'
import type { Graph } from '../graph.js'
import type { HostFacts } from '../host-check.js'
import type { LoadedLevel } from '../load.js'
import type { ModelState } from '../model-state.js'
import { DataType, elemTypeOf, makeValueInfo } from '../onnx.js'
import type { Engine } from '../ort.js'
import type { AttentionCall, AttentionMethod, ReplacedAttention } from '../replaced-attention.js'
import { type Recorder, submit } from '../submit.js'

/** A model, cut and loaded, before its shapes are known. */
export interface CapturableGraph {
  readonly graph: Graph
  readonly cut: Cut
  readonly levels: readonly LoadedLevel[]
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

/** An output on the CPU. */
export interface PassOutput {
  readonly type: string
  readonly dims: readonly number[]
  readonly values: Float32Array
}

interface PassLevel {
  /** As it is without recording. */
  readonly loaded: LoadedLevel
  readonly piece: CapturedPiece | undefined
  /** Values of the piece that are needed. */
  readonly outputs: readonly string[]
  /** false: what is recorded of the piece comes out different, so it is run as without. */
  recorded: boolean
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
    { graph, cut, levels }: CapturableGraph,
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
        const outputs = piece?.outputs.filter((value) => cut.lastUse.has(value) || value === output) ?? []
        const loaded = levels[index]!
        const ours = cuts.map(({ found }) => attentions.get(found.node.layer)!)
        const captured = piece && outputs.length > 0 ? await pieces.load({ ...piece, outputs }, name) : undefined
        pass.#levels.push({ loaded, piece: captured, outputs, recorded: true, attentions: ours })
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

  /**
   * Hands a pass to the GPU, and waits for nothing. Another may be handed to it before the output of this one is there.
   *
   * @returns the output, which rejects with what the GPU refused
   */
  async submit(call: PassCall): Promise<{ readonly output: Promise<PassOutput> }> {
    const checks: Promise<void>[] = []
    this.#feed(call.feeds)
    for (const level of this.#levels) {
      call.signal?.throwIfAborted()
      checks.push(...(await this.#attend(level, call, await this.#runPiece(level))))
    }
    return { output: this.#read(checks) }
  }

  /** @param before records what the attentions read */
  async #attend(
    { attentions }: PassLevel,
    { feeds: _, ...told }: PassCall,
    before: Recorder | undefined,
  ): Promise<Promise<void>[]> {
    if (attentions.length === 0) return before ? [submit(this.engine.runtime, 'captured piece', before)] : []
    const checks: Promise<void>[] = []
    for (const [index, attention] of attentions.entries()) {
      const call: AttentionCall = {
        ...this.#tensorsOf(attention.cut),
        ...{ ...told, pastLength: 0, cache: undefined, onAttention: undefined },
      }
      const output = bufferOf(this.#pieces.tensors.get(attention.cut.output)!)
      checks.push(...(await attention.submitInto(call, output, index === 0 ? before : undefined)).checks)
    }
    return checks
  }

  /**
   * Runs a pass in which each piece is computed both ways, from the same values, which are others than those that were there when it
   * was recorded. Pieces that come out different are run as without from here on.
   *
   * @returns names of those
   */
  async check(call: PassCall, tolerance: number): Promise<string[]> {
    const { runtime } = this.engine
    this.#feed(call.feeds)
    for (const level of this.#levels) {
      call.signal?.throwIfAborted()
      if (level.piece) {
        await submit(runtime, 'captured piece', await this.#pieces.replay(level.piece))
        const found = new Map<string, ArrayBuffer>()
        for (const name of level.outputs) {
          const buffer = bufferOf(this.#pieces.tensors.get(name)!)
          found.set(name, await runtime.readBytes({ buffer, offsetBytes: 0, sizeBytes: this.#sizeOf(name) }))
        }
        await this.#runWithout(level)
        for (const [name, bytes] of found) {
          const buffer = bufferOf(this.#pieces.tensors.get(name)!)
          const expected = await runtime.readBytes({ buffer, offsetBytes: 0, sizeBytes: this.#sizeOf(name) })
          const floats = (data: ArrayBuffer) =>
            this.#pieces.tensors.get(name)!.type === 'float16'
              ? halvesToFloats(new Uint16Array(data))
              : new Float32Array(data)
          if (relativeError(floats(bytes), floats(expected)) > tolerance) level.recorded = false
        }
      }
      await Promise.all(await this.#attend(level, call, undefined))
    }
    return this.#levels.flatMap(({ recorded, loaded }) => (recorded ? [] : loaded.name))
  }

  #sizeOf(name: string): number {
    const { dims, type } = this.#pieces.tensors.get(name)!
    const sizeBytes = dims.reduce((product, dim) => product * dim, type === 'float16' ? 2 : 4)
    return Math.ceil(sizeBytes / 4) * 4
  }

  async #runPiece(level: PassLevel): Promise<Recorder | undefined> {
    if (!level.piece) return undefined
    if (level.recorded) return this.#pieces.replay(level.piece)
    await this.#runWithout(level)
    return undefined
  }

  /** Runs a piece as it is without recording, and brings what it gives to where it is kept. */
  async #runWithout({ loaded, outputs }: PassLevel): Promise<void> {
    const { device } = this.engine.runtime
    const { tensors } = this.#pieces
    const feeds = Object.fromEntries(loaded.inputs.map((name) => [name, tensors.get(name)!]))
    const results = await this.engine.run(loaded.session!, feeds, outputs, loaded.name, true)
    const encoder = device.createCommandEncoder({ label: loaded.name })
    for (const [name, tensor] of Object.entries(results)) {
      const kept = bufferOf(tensors.get(name)!)
      if (tensor.location === 'gpu-buffer') encoder.copyBufferToBuffer(bufferOf(tensor), 0, kept, 0, this.#sizeOf(name))
      else {
        const data = tensor.data as unknown as ArrayBufferView<ArrayBuffer>
        device.queue.writeBuffer(kept, 0, data.buffer, data.byteOffset, data.byteLength)
      }
    }
    device.queue.submit([encoder.finish()])
    for (const tensor of Object.values(results)) tensor.dispose()
  }

  /** The output of what was submitted last. */
  async #read(checks: readonly Promise<void>[]): Promise<PassOutput> {
    const tensor = this.#pieces.tensors.get(this.output)!
    const { type, dims } = tensor
    const sizeBytes = dims.reduce((product, dim) => product * dim, 4)
    const bytes = await this.engine.runtime.readBytes({ buffer: bufferOf(tensor), offsetBytes: 0, sizeBytes })
    await Promise.all(checks)
    return { type, dims, values: new Float32Array(bytes) }
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
