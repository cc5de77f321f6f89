import {
  type AttentionShape,
  type BufferSlice,
  type Dispatch,
  type Runtime,
  SparseAttentionError,
} from '@sparse-attention/core'
import { checkRegions, type GridRegions, regionCounts } from '../grid-regions/regions.js'
import { checkInteger, checkWords } from '../shared/check.js'
import { workgroupRanges } from '../shared/grid.js'
import { packUniforms } from '../shared/uniforms.js'
import { emitRouteRegions, MAX_REGIONS, routeRegionsUniforms } from './emit.js'

export interface RegionRouting {
  /** At most 1024, without a cut at the top and the left. */
  readonly regions: GridRegions
  /** Regions that each attends to; all of them where there are fewer. At least 1. */
  readonly topK: number
  /** Query heads that share their routes, added up: a divisor of all, `queryHeads` for one routing of all. */
  readonly headsTogether: number
}

/**
 * @param qSums  f32[B, Hq, regions, D] of `regionSums`, queries
 * @param kSums  f32[B, Hkv, regions, D], keys
 * @param bitmap u32[B, Hq, regions, ceil(regions / 32)], written
 */
export type RouteRegions = (
  shape: Pick<AttentionShape, 'batch' | 'queryHeads' | 'kvHeads'>,
  routing: RegionRouting,
  qSums: BufferSlice,
  kSums: BufferSlice,
  bitmap: BufferSlice,
) => readonly Dispatch[]

/**
 * The k regions that each region attends to: affinities of region means and the top k of each row, in one dispatch (BiFormer,
 * arXiv 2303.08810, §3.2). Ties go to the lower index, and NaN counts as −∞. Affinities never reach memory.
 *
 * Cost, for R regions: 2 · B · Hq · R² · D operations, and 20 for each pair of regions that is ranked; the sums and the bitmap once.
 *
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL from the returned function
 */
export async function routeRegions(runtime: Runtime, { headDim }: { readonly headDim: number }): Promise<RouteRegions> {
  const kernel = await runtime.kernel(emitRouteRegions())
  return ({ batch, queryHeads, kvHeads }, { regions, topK, headsTogether }, qSums, kSums, bitmap) => {
    checkRegions(regions, regions.height * regions.width)
    const { across, down, count } = regionCounts(regions)
    checkRoutable(regions, count)
    checkInteger('topK', topK, 1, 2 ** 31)
    checkInteger('headsTogether', headsTogether, 1, queryHeads)
    checkInteger('queryHeads / headsTogether', queryHeads / headsTogether, 1, queryHeads)
    const words = Math.ceil(count / 32)
    checkWords('qSums', qSums, batch * queryHeads * count * headDim)
    checkWords('kSums', kSums, batch * kvHeads * count * headDim)
    checkWords('bitmap', bitmap, batch * queryHeads * count * words)
    const total = ((batch * queryHeads) / headsTogether) * count
    const operations = 2 * count * headDim * headsTogether + 20 * count
    const bytes = 4 * batch * count * ((queryHeads + kvHeads) * headDim + queryHeads * words)
    return workgroupRanges(total, operations, runtime.work.operationsPerDispatch).map((range) => ({
      kernel,
      bindings: [
        runtime.uniforms.get(
          packUniforms(routeRegionsUniforms, {
            ...range.uniforms,
            regions: count,
            across,
            down,
            heads_together: headsTogether,
            group_size: queryHeads / kvHeads,
            vectors: headDim / 4,
            top_k: topK,
            words,
            ...weights(regions, down, across),
          }),
        ),
        qSums,
        kSums,
        bitmap,
      ],
      workgroups: range.workgroups,
      cost: { operations: range.count * operations, bytes: (range.count / total) * bytes },
    }))
  }
}

/** Inverse to the number of tokens of a region, and integers: the last row and the last column may be short. */
function weights(
  { height, width, regionHeight, regionWidth }: GridRegions,
  down: number,
  across: number,
): { weight: number; last_row_weight: number; last_column_weight: number; corner_weight: number } {
  const [row, lastRow] = sideWeights(regionHeight, height - (down - 1) * regionHeight)
  const [column, lastColumn] = sideWeights(regionWidth, width - (across - 1) * regionWidth)
  return {
    weight: row * column,
    last_row_weight: lastRow * column,
    last_column_weight: row * lastColumn,
    corner_weight: lastRow * lastColumn,
  }
}

/** Integers in the ratio of 1 / size to 1 / last. */
function sideWeights(size: number, last: number): [ofAll: number, ofLast: number] {
  let [divisor, rest] = [size, last]
  while (rest > 0) [divisor, rest] = [rest, divisor % rest]
  return [last / divisor, size / divisor]
}

function checkRoutable({ cutTop, cutLeft }: GridRegions, count: number): void {
  if (cutTop === 0 && cutLeft === 0 && count <= MAX_REGIONS) return
  throw new SparseAttentionError('INVALID_ARGUMENT', {
    message: `Routes between ${count} regions, cut by ${cutTop} and ${cutLeft}.`,
    fix: `Pass at most ${MAX_REGIONS} regions, with no cut at the top and the left.`,
    where: 'regions',
  })
}
