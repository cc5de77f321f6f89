import type { AttentionShape, OwnedTensor, Runtime, Tensor } from '@sparse-attention/core'
import { type CallTensors, fillNormal } from '../table/device-input.js'

/** Neighbouring tokens of a frame that look alike, and how many different such patches there are. */
const patch = { rows: 8, centres: 257 }

/** Queries are so much larger than keys, so that attention is not the same everywhere. */
const queryScale = 1.5

/**
 * Q, K and V of one layer as a video is denoised, made on the device: patches of tokens that have 0.8 of a centre in common, the
 * same for queries and keys and in all steps, and 0.6 of each one's own, another in every step.
 */
export class VideoTensors implements CallTensors {
  readonly q: Tensor
  readonly k: Tensor
  readonly v: Tensor
  readonly out: Tensor
  readonly lse: Tensor
  readonly #owned: OwnedTensor[] = []

  constructor(
    private readonly runtime: Runtime,
    readonly shape: AttentionShape,
    private readonly seed: number,
  ) {
    const { queryHeads, queryLength, headDim } = shape
    const make = (dtype: 'f16' | 'f32', sizes: readonly number[]) => {
      const tensor = runtime.tensor(dtype, sizes)
      this.#owned.push(tensor)
      return tensor
    }
    try {
      const rows = [1, queryHeads, queryLength]
      this.q = make('f16', [...rows, headDim])
      this.k = make('f16', [...rows, headDim])
      this.v = make('f16', [...rows, headDim])
      this.out = make('f16', [...rows, headDim])
      this.lse = make('f32', rows)
    } catch (error) {
      this[Symbol.dispose]()
      throw error
    }
  }

  /** Records what they are in a step. */
  async fill(step: number): Promise<void> {
    const [q, k, v] = this.#owned as [OwnedTensor, OwnedTensor, OwnedTensor]
    const own = 3 * (this.seed + 1000 * (step + 1))
    const alike = { ...patch, seed: this.seed }
    await fillNormal(this.runtime, q, { seed: own, scale: queryScale, alike })
    await fillNormal(this.runtime, k, { seed: own + 1, alike })
    await fillNormal(this.runtime, v, { seed: own + 2, alike: { ...alike, seed: this.seed + 1 } })
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#owned) tensor.dispose()
  }
}
