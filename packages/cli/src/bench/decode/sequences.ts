import type { PagedKVCache, Runtime } from '@sparse-attention/core'
import { pageBounds, pagedKVCache, quantizedKeys } from '@sparse-attention/decode'
import { fillNormal } from '../table/device-input.js'

/** Tokens that are made and appended at a time. */
const tokensAtOnce = 4096

/** Neighbouring keys that look alike. */
const runOfKeys = 32

export interface SequencesShape {
  readonly batch: number
  readonly kvHeads: number
  readonly headDim: number
  /** Tokens of each sequence, at most. */
  readonly capacity: number
}

/** Tokens of a page: Quest's. */
export const pageSize = 16

/**
 * A cache for sequences in f16, which keeps of its pages what methods for decoding want to know of them.
 *
 * @param estimates bits of the keys that it keeps for estimates
 */
export function sequenceCache(
  runtime: Runtime,
  shape: SequencesShape,
  estimates: readonly (4 | 8)[] = [4],
): Promise<PagedKVCache> {
  const metadata = [pageBounds, ...estimates.map(quantizedKeys)]
  return pagedKVCache(runtime, { ...shape, dtype: 'f16', pageSize, metadata })
}

/**
 * Appends made-up tokens until each sequence has `keys`: normal values, and keys that look like their neighbours. No two
 * sequences, and no two parts of one, hold the same.
 */
export async function appendUpTo(
  runtime: Runtime,
  cache: PagedKVCache,
  keys: number,
  { seed, signal }: { readonly seed: number; readonly signal: AbortSignal },
): Promise<void> {
  const { batch, kvHeads, headDim } = cache.config
  for (let sequence = 0; sequence < batch; sequence++) {
    for (let held = cache.lengths[sequence]!; held < keys; held = cache.lengths[sequence]!) {
      signal.throwIfAborted()
      const shape = [1, kvHeads, Math.min(tokensAtOnce, keys - held), headDim]
      using k = runtime.tensor('f16', shape)
      using v = runtime.tensor('f16', shape)
      const part = 2 * (seed + sequence * 65536 + Math.floor(held / runOfKeys))
      const alike = { rows: runOfKeys, centres: 2 ** 32 - 1, seed: part }
      await fillNormal(runtime, k, { seed: part, alike })
      await fillNormal(runtime, v, { seed: part + 1 })
      const encoder = runtime.device.createCommandEncoder()
      cache.append(encoder, k, v, { sequences: [sequence] })
      runtime.device.queue.submit([encoder.finish()])
    }
  }
  await runtime.idle()
}
