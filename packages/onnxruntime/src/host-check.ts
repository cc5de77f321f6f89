import { SparseAttentionError } from '@sparse-attention/core'
import type { InferenceSession, Tensor } from 'onnxruntime-web'
import type { FoundAttention } from './attention-node.js'
import { hostOutput } from './cut.js'
import { type MaskedShape, maskVisibility, type Visibility } from './mask-check.js'
import type { Engine } from './ort.js'
import { shapedInput, shapeTensor } from './shape-inputs.js'

/** What the host knows of the replaced attentions in one run. */
export interface HostFacts {
  /** How many keys the model says an attention sees, when it does. */
  keyLength(found: FoundAttention): number | undefined
  /**
   * What its mask shows.
   *
   * @throws UNSUPPORTED when that is neither everything nor what causal attention shows
   */
  visibility(found: FoundAttention, shape: MaskedShape): Visibility | undefined
}

const nothing: HostFacts = { keyLength: () => undefined, visibility: () => undefined }

/**
 * Reads on the CPU, before anything runs on the GPU, what the attentions depend on besides their tensors: how many keys each
 * GroupQueryAttention sees, and the masks of the others. Batches whose sequences have different lengths or padding are
 * refused: our attention takes one length a call. Positions must follow those of the past: where they do not,
 * onnxruntime-web's own providers disagree about what the operator means.
 */
export class HostCheck {
  constructor(
    private readonly engine: Engine,
    private readonly session: InferenceSession | undefined,
    private readonly inputs: readonly string[],
    private readonly outputs: readonly string[],
    private readonly attentions: readonly FoundAttention[],
  ) {}

  /** @throws UNSUPPORTED for padding and odd positions, naming the node; INVALID_ARGUMENT for a feed on the GPU */
  async read(feeds: Readonly<Record<string, Tensor>>): Promise<HostFacts> {
    if (!this.session) return nothing
    const needed = Object.fromEntries(this.inputs.map((name) => [name, this.#feed(name, feeds)]))
    const results = await this.engine.run(this.session, needed, this.outputs, 'masks and sequence lengths')
    const lengths = new Map<FoundAttention, number>()
    for (const found of this.attentions) {
      const total = readLength(found, (value) => results[hostOutput(value)]!)
      if (total !== undefined) lengths.set(found, total)
    }
    // Layers share their masks, and most of them their shapes.
    const seen = new Map<string, Visibility>()
    return {
      keyLength: (found) => lengths.get(found),
      visibility(found, shape) {
        if (found.mask.length === 0) return undefined
        const key = JSON.stringify([found.mask, shape.queryLength, shape.keyLength])
        const known = seen.get(key) ?? maskVisibility(found, (value) => results[hostOutput(value)]!, shape)
        seen.set(key, known)
        return known
      },
    }
  }

  async dispose(): Promise<void> {
    if (this.session) await this.engine.release(this.session)
  }

  #feed(name: string, feeds: Readonly<Record<string, Tensor>>): Tensor {
    const given = feeds[name]
    if (given) return onCpu(name, given)
    return shapeTensor(this.engine.ort, feeds[shapedInput(name)]!.dims)
  }
}

/** The value of a GroupQueryAttention's `total_sequence_length`. */
function readLength({ args, node }: FoundAttention, result: (value: string) => Tensor): number | undefined {
  const { seqlensK, totalSequenceLength, positionIds } = args
  if (totalSequenceLength === '') return undefined
  const integers = (value: string) =>
    Array.from(result(value).data as ArrayLike<number | bigint>, (each) => Number(each))
  const total = integers(totalSequenceLength)[0]!
  const padded = integers(seqlensK).find((last) => last !== total - 1)
  if (padded !== undefined) throw padding(node.name, seqlensK, padded + 1, total)
  if (positionIds !== '') {
    const length = result(positionIds).dims.at(-1) ?? 1
    const odd = integers(positionIds).findIndex((position, i) => position !== total - length + (i % length))
    if (odd >= 0) throw oddPosition(node.name, positionIds, integers(positionIds)[odd]!, total, length)
  }
  return total
}

function onCpu(name: string, tensor: Tensor): Tensor {
  if (tensor.location === 'cpu' || tensor.location === 'cpu-pinned') return tensor
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: `The feed '${name}' lies on the GPU, but masks or sequence lengths are computed from it.`,
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
