import type { KVCacheConfig, PagedKVCache, Runtime } from '@sparse-attention/core'
import { pageBounds, quantizedKeys } from './metadata.js'
import { pagedKVCache } from './paged-kv-cache.js'

/** What makes the caches of a model's layers: `kvCache` of a `ModelCache`'s options. */
export type MakeCache = (runtime: Runtime, config: Required<KVCacheConfig>) => Promise<PagedKVCache>

/**
 * Caches in pages, with what the methods of this package want to know of them by default: bounds of each page's keys, and the keys
 * in 4 bits. So one conversation can be read by any of them.
 *
 * @param pageSize tokens of a page, as the model was loaded for
 */
export function cacheForMethods(pageSize: number): MakeCache {
  const metadata = [pageBounds, quantizedKeys(4)]
  return (runtime, config) => pagedKVCache(runtime, { ...config, pageSize, metadata })
}
