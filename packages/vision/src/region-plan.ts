import {
  type AttentionFrame,
  type BufferSlice,
  type Dispatch,
  type PermutedPlanData,
  type Runtime,
  SparseAttentionError,
} from '@sparse-attention/core'
import { type GridRegions, regionCounts, regionOrder } from '@sparse-attention/kernels'

/** A plan whose blocks are the regions of a grid, for queries and keys alike, and what writes all of it but the bitmap. */
export interface RegionPlan {
  readonly plan: PermutedPlanData & { readonly kind: 'variable-block' }
  /** u32[B, Hq, R, ceil(R / 32)], to be written: which regions each attends to. */
  readonly bitmap: BufferSlice
  readonly dispatches: readonly Dispatch[]
}

/** A row of a dispatch is a region, and a bit of the bitmap two of them. */
function checkCount({ device }: Runtime, count: number, bitmapBytes: number): void {
  const { maxStorageBufferBindingSize, maxComputeWorkgroupsPerDimension } = device.limits
  if (count <= maxComputeWorkgroupsPerDimension && bitmapBytes <= maxStorageBufferBindingSize) return
  throw new SparseAttentionError('LIMIT_EXCEEDED', {
    message: `${count} regions need a plan of ${bitmapBytes} bytes; the device binds ${maxStorageBufferBindingSize}.`,
    fix: 'Use larger regions or windows, or split the batch.',
    where: 'context.grid',
  })
}

/** Plans whose blocks are the regions of a grid: their tokens one after another, which a permutation says. */
export async function regionPlans(
  runtime: Runtime,
): Promise<(frame: AttentionFrame, regions: GridRegions) => RegionPlan> {
  const arrange = await regionOrder(runtime)
  return (frame, regions) => {
    const { batch, queryHeads, kvHeads, queryLength, keyLength, causal } = frame
    const { count } = regionCounts(regions)
    // Heads of a plan could differ, regions do not: keys share what queries have, and heads the first copy of a batch entry.
    const copies = batch * queryHeads
    checkCount(runtime, count, 4 * copies * count * Math.ceil(count / 32))
    const order = frame.planBuffer(4 * copies * keyLength)
    const starts = frame.planBuffer(4 * copies * (count + 1))
    const bitmap = frame.planBuffer(4 * copies * count * Math.ceil(count / 32))
    const firstOf = (slice: BufferSlice, elements: number) => ({ ...slice, sizeBytes: 4 * elements })
    return {
      plan: {
        kind: 'variable-block',
        ...{ batch, queryHeads, queryLength, keyLength, causal },
        ...{ queryBlocks: count, keyBlocks: count, keyHeads: kvHeads },
        bitmap,
        queryStarts: starts,
        keyStarts: firstOf(starts, batch * kvHeads * (count + 1)),
        permutation: { keyHeads: 1, queries: order, keys: firstOf(order, batch * keyLength) },
      },
      bitmap,
      dispatches: arrange(regions, { order, starts, copies }),
    }
  }
}
