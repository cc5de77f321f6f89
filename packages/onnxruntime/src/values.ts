import type { Tensor } from 'onnxruntime-web'

/**
 * The values of one run that are alive, with who frees them. Feeds belong to the caller; everything else is freed after
 * its last use, unless it is handed to the caller.
 */
export class Values {
  readonly #entries = new Map<string, { readonly tensor: Tensor; readonly free: () => void }>()

  constructor(feeds: Readonly<Record<string, Tensor>>) {
    for (const [name, tensor] of Object.entries(feeds)) this.#entries.set(name, { tensor, free: () => {} })
  }

  get(name: string): Tensor {
    return this.#entries.get(name)!.tensor
  }

  /** Adds a value of ours. `free` is called once, at its end. */
  add(name: string, tensor: Tensor, free: () => void = () => tensor.dispose()): void {
    this.#entries.set(name, { tensor, free })
  }

  /** Hands a value to the caller: it will not be freed. */
  give(name: string): Tensor {
    const { tensor } = this.#entries.get(name)!
    this.#entries.delete(name)
    return tensor
  }

  free(name: string): void {
    this.#entries.get(name)?.free()
    this.#entries.delete(name)
  }

  freeAll(): void {
    for (const name of [...this.#entries.keys()]) this.free(name)
  }
}
