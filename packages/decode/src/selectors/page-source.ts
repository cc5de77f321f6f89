import {
  type AttentionFrame,
  type CompiledConfig,
  type Dispatch,
  type KeyPages,
  type Runtime,
  SparseAttentionError,
} from '@sparse-attention/core'
import { plainPages } from '@sparse-attention/kernels'
import type { PageMetadata } from '../kv-cache/metadata.js'

/** The pages of a call with what a method needs to know of them, and dispatches that have to run first. */
export type PageSource = (frame: AttentionFrame) => {
  readonly pages: KeyPages
  readonly dispatches: readonly Dispatch[]
}

/**
 * Where keys come from a paged cache, its pages: the cache keeps their metadata. Where they come from tensors, pages that are
 * made up at each call, which reads all keys: right for tests and single calls, and not what one decodes with.
 *
 * @param metadata what the method reads
 * @throws UNSUPPORTED from the returned function, for a cache without that metadata
 */
export async function pageSource(
  runtime: Runtime,
  config: CompiledConfig,
  pageSize: number,
  metadata: readonly PageMetadata[],
): Promise<PageSource> {
  if (config.pageSize !== undefined) {
    return ({ pages }) => {
      const missing = metadata.find(({ name }) => !pages!.metadata[name])
      if (!missing) return { pages: pages!, dispatches: [] }
      throw new SparseAttentionError('UNSUPPORTED', {
        message: `The cache does not keep '${missing.name}' of its pages.`,
        fix: `Make it with metadata: [${metadata.map(({ name }) => metadataCall(name)).join(', ')}].`,
        where: 'cache',
      })
    }
  }
  const [plain, ...make] = await Promise.all([
    plainPages(runtime, pageSize),
    ...metadata.map((entry) => entry.ofTensor(runtime, { ...config, pageSize })),
  ])
  return (frame) => {
    const { pages, dispatch } = plain(frame)
    const made = make.map((ofTensor) => ofTensor(frame, pages))
    const arrays = metadata.map(({ name }, n) => [name, made[n]!.arrays])
    return {
      pages: { ...pages, metadata: Object.fromEntries(arrays) },
      dispatches: [dispatch, ...made.flatMap(({ dispatches }) => dispatches)],
    }
  }
}

/** How the metadata of a name is asked for. */
function metadataCall(name: string): string {
  const bits = /^keys-(\d)-bit$/.exec(name)
  return bits ? `quantizedKeys(${bits[1]})` : 'pageBounds'
}
