import { attendRow, type HeadMemory, worst } from '@sparse-attention/compare'
import {
  forEachPlanRows,
  type HostPlan,
  halvesToFloats,
  type PagedKVCache,
  type Runtime,
  recordDispatches,
} from '@sparse-attention/core'

/** One token of each sequence and its answer, on the host. */
export interface HostToken {
  readonly queryHeads: number
  readonly scale: number
  /** [B, Hq, 1, D] */
  readonly q: Float32Array
  /** [B, Hq, 1, D] */
  readonly out: Float32Array
  /** [B, Hq, 1] */
  readonly lse: Float32Array
}

/** Keys and values of a cache as the host sees them, read when they are first asked for. */
export class SequenceReader {
  readonly #heads = new Map<string, HeadMemory>()

  constructor(
    private readonly runtime: Runtime,
    private readonly cache: PagedKVCache,
  ) {}

  /**
   * Attends again in float64, in the first and the last head of the first and the last sequence, over the same selection.
   *
   * @param plan absent: everything was attended to
   * @returns ‖out − exact‖₂ ÷ ‖exact‖₂ over these rows, or the largest difference in their LSE, whichever is larger
   */
  async error({ queryHeads, scale, q, out, lse }: HostToken, plan?: HostPlan): Promise<number> {
    const { batch, kvHeads, headDim } = this.cache.config
    const rows = new Map<number, readonly number[]>()
    for (const sequence of [0, batch - 1]) {
      for (const head of [0, queryHeads - 1]) rows.set(sequence * queryHeads + head, [0, this.cache.lengths[sequence]!])
    }
    if (plan) {
      forEachPlanRows(plan, ({ batch: sequence, head, keys }) => {
        if (rows.has(sequence * queryHeads + head)) rows.set(sequence * queryHeads + head, keys)
      })
    }
    let [difference, magnitude, lseDifference] = [0, 0, 0]
    for (const [row, keys] of rows) {
      const [sequence, head] = [Math.floor(row / queryHeads), row % queryHeads]
      const memory = await this.#head(sequence, Math.floor((head * kvHeads) / queryHeads))
      const query = q.subarray(row * headDim, (row + 1) * headDim)
      const exact = attendRow(query, memory, keys, this.cache.lengths[sequence]!, scale)
      for (let d = 0; d < headDim; d++) {
        difference += (out[row * headDim + d]! - exact.out[d]!) ** 2
        magnitude += exact.out[d]! ** 2
      }
      lseDifference = worst(lseDifference, Math.abs(lse[row]! - exact.lse))
    }
    return worst(Math.sqrt(difference / Math.max(magnitude, Number.MIN_VALUE)), lseDifference)
  }

  async #head(sequence: number, kvHead: number): Promise<HeadMemory> {
    const key = `${sequence} ${kvHead}`
    const known = this.#heads.get(key) ?? (await this.#read(sequence, kvHead))
    this.#heads.set(key, known)
    return known
  }

  async #read(sequence: number, kvHead: number): Promise<HeadMemory> {
    const { runtime, cache } = this
    const { headDim } = cache.config
    const { k, v, pages, dispatches } = cache.view()
    const encoder = runtime.device.createCommandEncoder()
    recordDispatches(runtime.device, encoder, dispatches)
    runtime.device.queue.submit([encoder.finish()])
    const { table, width, pageSize, poolPages } = pages
    const row = { buffer: table.buffer, offsetBytes: table.offsetBytes + 4 * sequence * (1 + width) }
    const held = Math.ceil(cache.lengths[sequence]! / pageSize)
    const entries = new Uint32Array(await runtime.readBytes({ ...row, sizeBytes: 4 * (1 + held) })).subarray(1)
    // Only as much of the head as the sequence's pages span.
    const [first, last] = entries.reduce(([a, b], page) => [Math.min(a, page), Math.max(b, page)], [poolPages, 0])
    const rowBytes = 2 * headDim
    const span = {
      offsetBytes: (kvHead * poolPages + first) * pageSize * rowBytes,
      sizeBytes: (last - first + 1) * pageSize * rowBytes,
    }
    const read = async ({ buffer }: typeof k) =>
      halvesToFloats(new Uint16Array(await runtime.readBytes({ buffer, ...span })))
    return {
      k: await read(k),
      v: await read(v),
      at: (token) => ((entries[Math.floor(token / pageSize)]! - first) * pageSize + (token % pageSize)) * headDim,
    }
  }
}
