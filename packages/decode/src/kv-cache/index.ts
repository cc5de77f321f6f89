export { cacheForMethods, type MakeCache } from './cache-for-methods.js'
export {
  type PageMetadata,
  type PageShape,
  pageBounds,
  quantizedKeys,
  type TensorMetadata,
  type UpdateMetadata,
} from './metadata.js'
export { type PagePool, type PagePoolConfig, pagePool } from './page-pool.js'
export { type OwnPool, pagedKVCache, type SharedPool } from './paged-kv-cache.js'
