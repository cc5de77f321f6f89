import type { AttentionShape, Random } from '@sparse-attention/core'

/** Runs of adjacent keys that matter to every query. */
export interface PlantedRuns {
  /** One run for so many keys, at a random place; at least one. */
  readonly keysPerRun: number
  /** Fewest and most keys of a run. */
  readonly length: readonly [fewest: number, most: number]
}

export const stripes: PlantedRuns = { keysPerRun: 128, length: [1, 1] }

/** As long as sentences: estimates that average over neighbouring keys, such as antidiagonals and pooled blocks, see them. */
export const bands: PlantedRuns = { keysPerRun: 4096, length: [32, 128] }

/**
 * Keys of the runs, of each KV head its own, point where all queries point a little too: their logits are about 10 above the
 * others.
 *
 * @param direction where: head_dim normal numbers
 */
export function plantKeys(
  random: Random,
  { batch, kvHeads, keyLength, headDim }: AttentionShape,
  { q, k }: { readonly q: Float32Array; readonly k: Float32Array },
  direction: Float32Array,
  { keysPerRun, length: [fewest, most] }: PlantedRuns,
): void {
  for (let i = 0; i < q.length; i++) q[i]! += direction[i % headDim]!
  const runs = Math.max(1, Math.round(keyLength / keysPerRun))
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < kvHeads; h++) {
      for (let n = 0; n < runs; n++) {
        const length = Math.min(keyLength, fewest === most ? fewest : fewest + random.integer(most - fewest + 1))
        const first = random.integer(keyLength - length + 1)
        for (let key = first; key < first + length; key++) {
          const at = ((b * keyLength + key) * kvHeads + h) * headDim
          for (let d = 0; d < headDim; d++) k[at + d] = (10 / Math.sqrt(headDim)) * direction[d]!
        }
      }
    }
  }
}
