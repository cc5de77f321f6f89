import { SparseAttentionError } from '@sparse-attention/core'
import type { InferenceSession, Tensor } from 'onnxruntime-web'
import { type CutAttention, lengthOutput, type Piece } from './cut.js'
import type { Engine } from './ort.js'

/** Key lengths of the replaced attentions in one run, by the graph value that holds them. */
export type Lengths = ReadonlyMap<string, number>

/**
 * Reads how many keys each GroupQueryAttention sees, on the CPU and before anything runs on the GPU, and refuses batches
 * whose sequences have different lengths or padding: our attention takes one length a call.
 */
export class LengthCheck {
  constructor(
    private readonly engine: Engine,
    private readonly session: InferenceSession,
    private readonly piece: Piece,
    private readonly attentions: readonly CutAttention[],
  ) {}

  /**
   * @returns the value of each `total_sequence_length`
   * @throws UNSUPPORTED for padding, naming the node; INVALID_ARGUMENT for a feed on the GPU
   */
  async read(feeds: Readonly<Record<string, Tensor>>): Promise<Lengths> {
    const needed = Object.fromEntries(this.piece.inputs.map((name) => [name, onCpu(name, feeds[name]!)]))
    const results = await this.engine.run(this.session, needed, this.piece.outputs, 'the sequence lengths')
    const integers = (value: string) =>
      Array.from(results[lengthOutput(value)]!.data as ArrayLike<number | bigint>, (each) => Number(each))
    const lengths = new Map<string, number>()
    for (const { found } of this.attentions) {
      const { seqlensK, totalSequenceLength } = found.args
      if (totalSequenceLength === '') continue
      const total = integers(totalSequenceLength)[0]!
      const padded = integers(seqlensK).find((last) => last !== total - 1)
      if (padded !== undefined) throw padding(found.node.name, seqlensK, padded + 1, total)
      lengths.set(totalSequenceLength, total)
    }
    return lengths
  }

  async dispose(): Promise<void> {
    await this.engine.release(this.session)
  }
}

function onCpu(name: string, tensor: Tensor): Tensor {
  if (tensor.location === 'cpu' || tensor.location === 'cpu-pinned') return tensor
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: `The feed '${name}' lies on the GPU, but sequence lengths are computed from it.`,
    fix: 'Pass it as a tensor on the CPU.',
    where: name,
  })
}

function padding(node: string, value: string, length: number, total: number): SparseAttentionError {
  return new SparseAttentionError('UNSUPPORTED', {
    message: `Node ${node} has ${total} keys, but '${value}' says that one sequence of the batch has ${length}: it is padded.`,
    fix: "Run sequences of different length one by one, without zeros in the attention mask, or return 'keep' for this node.",
    where: node,
  })
}
