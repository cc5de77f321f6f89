import {
  type AttentionConfig,
  type BufferSlice,
  bytesPerElement,
  type Dispatch,
  type Runtime,
  type Tensor,
} from '@sparse-attention/core'
import { bindTensor } from '../shared/bind.js'
import { checkInteger, checkRows, checkWords } from '../shared/check.js'
import { workgroupRanges } from '../shared/grid.js'
import { addressValues, packUniforms } from '../shared/uniforms.js'
import { emitRegionOrder, emitRegionSums, ORDER_INVOCATIONS, regionOrderUniforms, regionSumsUniforms } from './emit.js'
import { checkRegions, type GridRegions, regionCounts } from './regions.js'

/** Memory that `regionOrder` writes; every copy, one for each batch entry and head of a plan, holds the same. */
export interface RegionOrderMemory {
  /** i32[copies, tokens]: the token at each place, one region after another. */
  readonly order: BufferSlice
  /** i32[copies, regions + 1]: the first place of each region. */
  readonly starts: BufferSlice
  readonly copies: number
}

export type RegionOrder = (regions: GridRegions, memory: RegionOrderMemory) => readonly Dispatch[]

const uniformValues = (regions: GridRegions) => {
  const { across, count } = regionCounts(regions)
  return {
    height: regions.height,
    width: regions.width,
    region_height: regions.regionHeight,
    region_width: regions.regionWidth,
    cut_top: regions.cutTop,
    cut_left: regions.cutLeft,
    across,
    regions: count,
  }
}

/**
 * Orders the tokens of a grid by region, from closed forms: nothing is sorted and nothing is uploaded.
 *
 * Cost: 4 bytes a token and copy, and as many a region.
 *
 * @throws INVALID_ARGUMENT, BUFFER_TOO_SMALL from the returned function
 */
export async function regionOrder(runtime: Runtime): Promise<RegionOrder> {
  const kernel = await runtime.kernel(emitRegionOrder())
  return (regions, { order, starts, copies }) => {
    const tokens = regions.height * regions.width
    checkRegions(regions, tokens)
    checkInteger('copies', copies, 1, 2 ** 20)
    const { count } = regionCounts(regions)
    checkWords('order', order, copies * tokens)
    checkWords('starts', starts, copies * (count + 1))
    const total = Math.ceil((copies * (tokens + 1)) / ORDER_INVOCATIONS)
    const bytes = 4 * copies * (tokens + count + 1)
    return workgroupRanges(total, 0, runtime.work.operationsPerDispatch).map((range) => ({
      kernel,
      bindings: [
        runtime.uniforms.get(
          packUniforms(regionOrderUniforms, { ...range.uniforms, ...uniformValues(regions), copies }),
        ),
        order,
        starts,
      ],
      workgroups: range.workgroups,
      cost: { operations: 0, bytes: (range.count / total) * bytes },
    }))
  }
}

/**
 * @param x    [B, H, height · width, D] of the dtype and head_dim compiled for, strided
 * @param sums f32[B, H, regions, D], written
 */
export type RegionSums = (x: Tensor, regions: GridRegions, sums: BufferSlice) => readonly Dispatch[]

/**
 * Sums of queries or keys over the regions of a grid, read where they lie: what BiFormer's region means (arXiv 2303.08810,
 * §3.2) are before they are divided. Of tokens only, so padding does not count. They are taken in an order that depends on
 * nothing but the regions, and are exact where the numbers are integers.
 *
 * Cost: an addition an element; x read once.
 *
 * @throws INVALID_DTYPE, INVALID_SHAPE, INVALID_VIEW, INVALID_ARGUMENT, BUFFER_TOO_SMALL from the returned function
 */
export async function regionSums(
  runtime: Runtime,
  { dtype, headDim }: Pick<AttentionConfig, 'dtype' | 'headDim'>,
): Promise<RegionSums> {
  const kernel = await runtime.kernel(emitRegionSums({ dtype }))
  return (x, regions, sums) => {
    checkRows('x', x, { dtype, headDim })
    const [batch, heads, length] = x.shape as [number, number, number, number]
    checkRegions(regions, length)
    const { count } = regionCounts(regions)
    const total = batch * heads * count
    checkWords('sums', sums, total * headDim)
    const bound = bindTensor(x)
    const elements = batch * heads * length * headDim
    const bytes = elements * bytesPerElement[dtype] + total * headDim * 4
    return workgroupRanges(total, elements / total, runtime.work.operationsPerDispatch).map((range) => ({
      kernel,
      bindings: [
        runtime.uniforms.get(
          packUniforms(regionSumsUniforms, {
            ...range.uniforms,
            ...uniformValues(regions),
            ...addressValues('x', bound),
            heads,
            units: (headDim * bytesPerElement[dtype]) / 16,
          }),
        ),
        bound.slice,
        sums,
      ],
      workgroups: range.workgroups,
      cost: { operations: (range.count / total) * elements, bytes: (range.count / total) * bytes },
    }))
  }
}
