import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-web'
import type { Piece } from '../cut.js'
import type { Graph } from '../graph.js'
import { makeNode, makeValueInfo, modelLike, type NodeProto, serializeModel, tensorTypeOf } from '../onnx.js'
import { type Engine, outputTypes } from '../ort.js'
import { pieceModel, type ValueType } from '../piece-model.js'
import type { Recorder } from '../submit.js'
import { recordTape, sameTapes, type TapedDispatch, tapeDispatches } from './dispatch-tape.js'

/** A piece whose dispatches onnxruntime-web has recorded. */
export interface CapturedPiece {
  readonly name: string
  readonly session: InferenceSession
  /** Tensors of the session's inputs, bound in its first run. */
  readonly feeds: Readonly<Record<string, OrtTensor>>
  readonly outputs: readonly string[]
  readonly copies: readonly Copy[]
  /** Undefined: it does more than dispatch, and is replayed by onnxruntime-web. */
  readonly tape: readonly TapedDispatch[] | undefined
}

/** An output that is another value in another shape. */
interface Copy {
  readonly from: string
  readonly to: string
  /** What reshapes, in order. */
  readonly nodes: readonly NodeProto[]
}

/** Operators whose output is their first input in another shape. */
const reshaping: ReadonlySet<string> = new Set(['Reshape', 'Unsqueeze', 'Squeeze', 'Flatten', 'Identity'])

/** Those that outputs depend on. A node beside them that only reshapes one would be a copy in every run. */
function neededNodes(nodes: readonly NodeProto[], outputs: readonly string[]): NodeProto[] {
  const needed = new Set(outputs)
  return nodes
    .toReversed()
    .filter(({ input, output }) => {
      if (!output.some((value) => needed.has(value))) return false
      for (const value of input) needed.add(value)
      return true
    })
    .toReversed()
}

/** Outputs of a piece that are only reshaped, and of what. */
function copiesOf({ nodes, outputs }: Piece): Copy[] {
  const makers = new Map(nodes.flatMap((node) => node.output.map((value) => [value, node] as const)))
  return outputs.flatMap((to) => {
    const chain: NodeProto[] = []
    let from = to
    for (let node = makers.get(from); node && reshaping.has(node.opType); node = makers.get(from)) {
      chain.unshift(node)
      from = node.input[0]!
    }
    return chain.length === 0 ? [] : [{ from, to, nodes: chain }]
  })
}

/**
 * Sessions with fixed shapes. What they compute is recorded by onnxruntime-web once, and all values between them stay in the same
 * buffers. The dispatches of its replay are taped, and from then on recorded into our own encoders, in a third of the time.
 *
 * Every buffer is one that onnxruntime-web has made: it forgets others after the run that binds them (version 1.30).
 */
export class CapturedPieces {
  /** Values in their buffers, by name. */
  readonly tensors: ReadonlyMap<string, OrtTensor>
  /** Of values that are there. */
  readonly types: Map<string, ValueType> = new Map()
  readonly #tensors = new Map<string, OrtTensor>()
  readonly #sessions: InferenceSession[] = []
  /** Sessions whose outputs are memory of ours. */
  readonly #memories: InferenceSession[] = []
  readonly #capturing: Engine

  constructor(
    private readonly graph: Graph,
    private readonly engine: Engine,
  ) {
    this.tensors = this.#tensors
    this.#capturing = engine.capturing()
  }

  /** A tensor of zeros for a value. Its dims are numbers. */
  async allocate(name: string, valueType: ValueType): Promise<OrtTensor> {
    const { elemType } = valueType
    const sizes = valueType.dims as readonly number[]
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
    const session = await this.engine.load(serializeModel(model), name, ['memory'])
    this.#memories.push(session)
    const zeros = new this.engine.ort.Tensor(type as 'float32', data as Float32Array, sizes)
    const { memory } = await this.engine.run(session, { zeros }, ['memory'], name, true)
    this.types.set(name, valueType)
    this.#tensors.set(name, memory!)
    return memory!
  }

  /** Loads and records a piece, whose inputs are there. Rejects where the model, or onnxruntime-web, does not allow it. */
  async load(piece: Piece, name: string): Promise<CapturedPiece> {
    const { inputs } = piece
    const copies = copiesOf(piece)
    // onnxruntime-web records dispatches, and a reshaped output of a session is a copy (version 1.30): what it is made of is given
    // instead, and copied here.
    const reshaped = new Set(copies.map(({ to }) => to))
    const given = new Set([...piece.outputs.filter((value) => !reshaped.has(value)), ...copies.map(({ from }) => from)])
    const outputs = [...given].filter((value) => !this.#tensors.has(value))
    const nodes = copies.length === 0 ? piece.nodes : neededNodes(piece.nodes, outputs)
    const model = pieceModel(this.graph, { ...piece, nodes, outputs }, this.types)
    const session = await this.#capturing.load(model, name, outputs)
    this.#sessions.push(session)
    for (const [value, type] of outputTypes(session)) this.types.set(value, type)
    const feeds = Object.fromEntries(inputs.map((input) => [input, this.#tensors.get(input)!]))
    const run = () => this.#run({ session, feeds, outputs, name }, true)
    // The first run binds, the second records, the others replay.
    await run()
    await run()
    const tape = await this.#tape(run)
    const reshapes = copies.filter(({ from, to, nodes }) => {
      const renamed = nodes.every(({ opType }) => opType === 'Identity')
      if (renamed) this.#tensors.set(to, this.#tensors.get(from)!)
      return !renamed
    })
    for (const reshape of reshapes) await this.#reshape(piece, reshape, name)
    return { name, session, feeds, outputs, copies: reshapes, tape }
  }

  /** Memory for a reshaped value, in its shape. */
  async #reshape(piece: Piece, { from, to, nodes }: Copy, name: string): Promise<void> {
    const initializers = piece.initializers.filter((tensor) => nodes.some(({ input }) => input.includes(tensor.name)))
    const model = pieceModel(this.graph, { nodes, initializers, inputs: [from], outputs: [to] }, this.types)
    const session = await this.engine.load(model, name, [to])
    this.#memories.push(session)
    const { [to]: memory } = await this.engine.run(session, { [from]: this.#tensors.get(from)! }, [to], name, true)
    this.#tensors.set(to, memory!)
    for (const [value, type] of outputTypes(session)) this.types.set(value, type)
  }

  /**
   * The dispatches of a replay. Others may use the device meanwhile, and theirs must not be among them: two replays have to give the
   * same.
   */
  async #tape(replay: () => Promise<void>): Promise<readonly TapedDispatch[] | undefined> {
    const { device } = this.engine.runtime
    const attempts = 3
    let before: readonly TapedDispatch[] | undefined
    for (let attempt = 0; attempt < attempts; attempt++) {
      const tape = await tapeDispatches(device, replay)
      if (tape && before && sameTapes(tape, before)) return tape
      before = tape
    }
    return undefined
  }

  /**
   * Computes a piece from what its inputs hold, by then or when what is returned is submitted.
   *
   * @returns what is to be recorded before anything that reads its outputs
   */
  async replay(piece: CapturedPiece): Promise<Recorder> {
    const { tape, copies } = piece
    if (!tape) await this.#run(piece)
    return (encoder) => {
      if (tape) recordTape(encoder, tape)
      for (const { from, to } of copies) {
        const [source, target] = [bufferOf(this.#tensors.get(from)!), bufferOf(this.#tensors.get(to)!)]
        encoder.copyBufferToBuffer(source, 0, target, 0, Math.min(source.size, target.size))
      }
    }
  }

  async #run(
    { session, feeds, outputs, name }: Pick<CapturedPiece, 'session' | 'feeds' | 'outputs' | 'name'>,
    waits = false,
  ): Promise<void> {
    const results = await this.#capturing.run(session, feeds, outputs, name, waits)
    for (const [value, tensor] of Object.entries(results)) {
      // The same buffer every time; what is new is a handle of it.
      if (this.#tensors.has(value)) tensor.dispose()
      else this.#tensors.set(value, tensor)
    }
  }

  async dispose(): Promise<void> {
    // Tensors first: they are freed by the sessions that made them.
    for (const tensor of new Set(this.#tensors.values())) tensor.dispose()
    this.#tensors.clear()
    for (const session of this.#sessions.splice(0)) await this.#capturing.release(session)
    for (const session of this.#memories.splice(0)) await this.engine.release(session)
  }
}

/** Its memory. */
export function bufferOf(tensor: OrtTensor): GPUBuffer {
  return tensor.gpuBuffer as unknown as GPUBuffer
}
