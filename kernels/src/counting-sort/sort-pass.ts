import type { AttentionFrame, BufferSlice, Dispatch, Kernel, Runtime } from '@sparse-attention/core'
import { SparseAttentionError } from '@sparse-attention/core'
import type { ExclusiveScan } from '../exclusive-scan/exclusive-scan.js'
import { workgroupRanges } from '../shared/grid.js'
import { packUniforms } from '../shared/uniforms.js'
import { SORT_CHUNK, sortUniforms } from './emit.js'

/** What one stable pass over rows by bins needs: the counting sort is one, the radix sort four. */
export interface SortShape {
  readonly segments: number
  readonly length: number
  readonly bins: number
}

interface SortLayout {
  readonly tiles: number
  readonly tileLength: number
  /** Counters of all segments, bins and tiles. */
  readonly counters: number
}

/** Tiles have at least as many rows as there are bins, so that counters take no more memory than keys do. */
export function sortLayout({ segments, length, bins }: SortShape): SortLayout {
  const tileLength = Math.max(4, Math.ceil(bins / SORT_CHUNK)) * SORT_CHUNK
  const tiles = Math.ceil(length / tileLength)
  return { tiles, tileLength, counters: segments * bins * tiles }
}

/** @throws LIMIT_EXCEEDED where rows or counters could not be numbered in 32 bits */
export function checkSortShape(shape: SortShape): void {
  const rows = shape.segments * shape.length
  if (Math.max(rows, sortLayout(shape).counters) < 2 ** 32) return
  throw new SparseAttentionError('LIMIT_EXCEEDED', {
    message: `${shape.segments} segments of ${shape.length} rows are ${rows} rows to sort at once.`,
    fix: 'Sort fewer segments at a time.',
    where: 'segments',
  })
}

/** Which bits of the keys are the bin. */
export interface SortBits {
  readonly shift: number
  readonly mask: number
}

/** Histogram, scan and scatter: `scatter` gets `moved` from its binding 3 on. */
export function sortPass(
  runtime: Runtime,
  kernels: { readonly histogram: Kernel; readonly scan: ExclusiveScan; readonly scatter: Kernel },
  scratch: Pick<AttentionFrame, 'scratch'>,
  shape: SortShape,
  bits: SortBits,
  slices: { readonly keys: BufferSlice; readonly counts: BufferSlice; readonly moved: readonly BufferSlice[] },
): readonly Dispatch[] {
  const { segments, length, bins } = shape
  const { tiles, tileLength, counters } = sortLayout(shape)
  const total = segments * tiles
  const uniforms = (grid: { first_workgroup: number; end_workgroup: number }) =>
    runtime.uniforms.get(packUniforms(sortUniforms, { ...grid, length, bins, tiles, tile_length: tileLength, ...bits }))
  const { keys, counts, moved } = slices
  const share = (workgroups: number, all: number) => (workgroups / total) * all
  const { operationsPerDispatch } = runtime.work
  return [
    ...workgroupRanges(total, tileLength, operationsPerDispatch).map((range) => ({
      kernel: kernels.histogram,
      bindings: [uniforms(range.uniforms), keys, counts],
      workgroups: range.workgroups,
      cost: {
        operations: share(range.count, segments * length),
        bytes: share(range.count, 4 * (segments * length + counters)),
      },
    })),
    ...kernels.scan(scratch, counts, counters),
    ...workgroupRanges(total, tileLength * SORT_CHUNK, operationsPerDispatch).map((range) => ({
      kernel: kernels.scatter,
      bindings: [uniforms(range.uniforms), keys, counts, ...moved],
      workgroups: range.workgroups,
      cost: {
        operations: share(range.count, segments * length * SORT_CHUNK),
        bytes: share(range.count, 4 * (segments * length * (1 + moved.length) + 2 * counters)),
      },
    })),
  ]
}
