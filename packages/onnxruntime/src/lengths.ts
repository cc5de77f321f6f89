import { SparseAttentionError } from '@sparse-attention/core'
import type { InferenceSession, Tensor } from 'onnxruntime-web'
import type { FoundAttention } from './attention-node.js'
import { lengthOutput } from './cut.js'
import type { Engine } from './ort.js'

/** Key lengths of the replaced attentions in one run, by the graph value that holds them. */
export type Lengths = ReadonlyMap<string, number>

/**
 * Reads how many keys each GroupQueryAttention sees, on the CPU and before anything runs on the GPU, and refuses batches
 * whose sequences have different lengths or padding: our attention takes one length a call. Positions must follow those
 * of the past: where they do not, onnxruntime-web's own providers disagree about what the operator means.
 */
export class LengthCheck {
  constructor(
    private readonly engine: Engine,
    private readonly session: InferenceSession,
    private readonly inputs: readonly string[],
    private readonly outputs: readonly string[],
    private readonly attentions: readonly FoundAttention[],
  ) {}

  /**
   * @returns the value of each `total_sequence_length`
   * @throws UNSUPPORTED for padding and odd positions, naming the node; INVALID_ARGUMENT for a feed on the GPU
   */
  async read(feeds: Readonly<Record<string, Tensor>>): Promise<Lengths> {
    const needed = Object.fromEntries(this.inputs.map((name) => [name, onCpu(name, feeds[name]!)]))
    const results = await this.engine.run(this.session, needed, this.outputs, 'the sequence lengths')
    const integers = (value: string) =>
      Array.from(results[lengthOutput(value)]!.data as ArrayLike<number | bigint>, (each) => Number(each))
    const lengths = new Map<string, number>()
    for (const found of this.attentions) {
      const { seqlensK, totalSequenceLength, positionIds } = found.args
      if (totalSequenceLength === '') continue
      const total = integers(totalSequenceLength)[0]!
      const padded = integers(seqlensK).find((last) => last !== total - 1)
      if (padded !== undefined) throw padding(found.node.name, seqlensK, padded + 1, total)
      if (positionIds !== '') {
        const length = results[lengthOutput(positionIds)]!.dims.at(-1) ?? 1
        const odd = integers(positionIds).findIndex((position, i) => position !== total - length + (i % length))
        if (odd >= 0) throw oddPosition(found.node.name, positionIds, integers(positionIds)[odd]!, total, length)
      }
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

function oddPosition(
  node: string,
  value: string,
  position: number,
  total: number,
  length: number,
): SparseAttentionError {
  return new SparseAttentionError('UNSUPPORTED', {
    message: `Node ${node} gets the position ${position} from '${value}', where ${total - length} to ${total - 1} follow its past.`,
    fix: "Feed positions that count on from the past, or return 'keep' for this node.",
    where: node,
  })
}
