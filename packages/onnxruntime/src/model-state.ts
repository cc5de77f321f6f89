import { type AttentionState, type SparseAttention, SparseAttentionError } from '@sparse-attention/core'

/**
 * What the methods of a model's attentions remember from run to run of one video: skip lists, centroids, kinds of heads. Made by
 * `AttentionModel.createState`; one a video, so that videos which are made at the same time know nothing of each other.
 */
export class ModelState implements Disposable {
  readonly #states = new Map<SparseAttention, AttentionState>()
  #disposed = false

  /** @internal @param owner the model that it belongs to */
  constructor(readonly owner: object) {}

  /** On the GPU, of all attentions that have run. */
  get sizeBytes(): number {
    let sum = 0
    for (const { sizeBytes } of this.#states.values()) sum += sizeBytes
    return sum
  }

  /** Forgets everything: for the next video. Not while a run is under way. */
  reset(): void {
    for (const state of this.#states.values()) state.reset()
  }

  /** Frees the memory. May be called twice; not while a run is under way. */
  dispose(): void {
    this.#disposed = true
    for (const state of this.#states.values()) state.dispose()
    this.#states.clear()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  /** @internal @throws DISPOSED */
  assertUsable(): void {
    if (!this.#disposed) return
    throw new SparseAttentionError('DISPOSED', {
      message: 'The state is disposed.',
      fix: 'Make a new one with createState.',
      where: 'state',
    })
  }

  /** @internal That of one attention, made when it first runs. */
  of(attention: SparseAttention): AttentionState {
    const known = this.#states.get(attention)
    if (known) return known
    const made = attention.createState()
    this.#states.set(attention, made)
    return made
  }
}
