import {
  type AttentionFrame,
  type BufferSlice,
  bytesPerElement,
  type CompiledConfig,
  type Dispatch,
  type KeyPages,
  type Runtime,
  type Tensor,
} from '@sparse-attention/core'
import {
  pageBounds as boundPages,
  type KeyBits,
  type NewTokens,
  quantizedKeyBytes,
  quantizeKeys,
  quantizePages,
} from '@sparse-attention/kernels'

/** What the keys of pages are like. */
export type PageShape = Pick<CompiledConfig, 'kvHeads' | 'headDim' | 'dtype'> & { readonly pageSize: number }

/**
 * What a pool keeps of its pages besides keys and values, so that a method need not read all keys to know which matter. Kept by
 * physical page: forks share it, and a page that is copied takes it along.
 */
export interface PageMetadata {
  /** Under which `KeyPages.metadata` has it. */
  readonly name: string
  /** Bytes that each of its arrays takes for a page and KV head: multiples of 4. */
  bytesPerPage(shape: PageShape): readonly number[]
  /** Compiles what brings the arrays up to date when tokens have been appended. */
  appended(runtime: Runtime, shape: PageShape): Promise<UpdateMetadata>
  /** Compiles what makes the arrays for keys that lie in a tensor: all of them, at each call. */
  ofTensor(runtime: Runtime, shape: PageShape): Promise<TensorMetadata>
}

/** @param k the keys of the pool [1, Hkv, poolPages · pageSize, D], which hold the new tokens already */
export type UpdateMetadata = (
  pages: KeyPages,
  arrays: readonly BufferSlice[],
  k: Tensor,
  tokens: NewTokens,
) => readonly Dispatch[]

/** @param pages of `plainPages` */
export type TensorMetadata = (
  frame: AttentionFrame,
  pages: KeyPages,
) => { readonly arrays: readonly BufferSlice[]; readonly dispatches: readonly Dispatch[] }

/**
 * The least and largest number of each channel of a page's keys, in the cache's dtype: what `quest` ranks pages by. Bounds of a
 * sequence's last page may be wider than its keys after a truncation, until it is appended to.
 */
export const pageBounds: PageMetadata = {
  name: 'bounds',
  bytesPerPage: ({ headDim, dtype }) => [2 * headDim * bytesPerElement[dtype]],
  async appended(runtime, shape) {
    const bounds = await boundPages(runtime, shape)
    return (pages, [array], k, tokens) => {
      const [sequences, , rows] = tokens.k.shape as [number, number, number]
      return [bounds(pages, k, array!, { rows, firstSequence: tokens.firstSequence, sequences })]
    }
  },
  async ofTensor(runtime, shape) {
    const bounds = await boundPages(runtime, shape, 'tensor')
    const [bytes] = pageBounds.bytesPerPage(shape)
    return (frame, pages) => {
      const array = frame.scratch(frame.batch * frame.kvHeads * pages.width * bytes!)
      return { arrays: [array], dispatches: [bounds(pages, frame.k, array, { sequences: frame.batch })] }
    }
  },
}

/** Keys in 4 or 8 bits, a scale and a zero for each token: what `twilight` estimates attention from. */
export function quantizedKeys(bits: KeyBits): PageMetadata {
  const metadata: PageMetadata = {
    name: `keys-${bits}-bit`,
    bytesPerPage({ headDim, pageSize }) {
      const { packed, scales } = quantizedKeyBytes({ bits, headDim }, 1, pageSize)
      return [packed, scales]
    },
    async appended(runtime, shape) {
      const quantize = await quantizePages(runtime, shape, bits)
      return (pages, [packed, scales], _, { k, firstSequence }) => quantize(pages, k, packed!, scales!, firstSequence)
    },
    async ofTensor(runtime, shape) {
      const quantize = await quantizeKeys(runtime, shape, bits)
      return (frame, { width, pageSize }) => {
        const tokens = frame.batch * frame.kvHeads * width * pageSize
        const bytes = quantizedKeyBytes({ bits, headDim: shape.headDim }, 1, tokens)
        const [packed, scales] = [frame.scratch(bytes.packed), frame.scratch(bytes.scales)]
        const dispatches = quantize(frame.k, { packed, scales, capacity: width * pageSize })
        return { arrays: [packed, scales], dispatches }
      }
    },
  }
  return metadata
}
