import type { KernelSource } from '@sparse-attention/core'
import { expect, test } from 'vitest'
import { emitAntidiagonalStatistics } from './antidiagonal-statistics/emit.js'
import { emitBandBlocks } from './band-blocks/emit.js'
import { emitBitmapToList } from './bitmap-to-list/emit.js'
import { emitBlockPool } from './block-pool/emit.js'
import { emitBlockWeights } from './block-weights/emit.js'
import { emitColumnSums } from './column-sums/emit.js'
import { emitAppendRows } from './contiguous-kv-cache/emit.js'
import { emitSortHistogram, emitSortScatter } from './counting-sort/emit.js'
import { emitDiagonalSums } from './diagonal-sums/emit.js'
import { emitDispatchArguments } from './dispatch-arguments/emit.js'
import { emitScanBlocks, emitScanReduce } from './exclusive-scan/emit.js'
import { emitPortable } from './flash-attention/portable.js'
import { emitRowItems } from './flash-attention/row-items.js'
import { emitSingleKeys } from './flash-attention/single-keys.js'
import { emitSubgroup } from './flash-attention/subgroup.js'
import { emitForcedBlocks } from './forced-blocks/emit.js'
import { emitRegionOrder, emitRegionSums } from './grid-regions/emit.js'
import { emitHeadErrors, emitHeadOrders } from './head-profile/emit.js'
import { emitInversePermutation } from './inverse-permutation/emit.js'
import { emitNearestCentroid } from './k-means/emit.js'
import { emitRoundCentroids } from './k-means/round-centroids.js'
import { emitListToBitmap } from './list-to-bitmap/emit.js'
import { emitListTokens } from './list-tokens/emit.js'
import { emitListedScores } from './listed-scores/emit.js'
import { emitMergeAttention } from './merge-attention/emit.js'
import { emitPageBounds } from './page-bounds/emit.js'
import { emitPageScores } from './page-scores/emit.js'
import { emitAppendPages, emitCopyPage, emitPlainTable, emitSetLength } from './page-table/emit.js'
import { emitPermuteRows } from './permute-rows/emit.js'
import { emitPooledScores } from './pooled-scores/emit.js'
import { emitPruneTopP } from './prune-top-p/emit.js'
import { emitQuantizeKeys } from './quantize-keys/emit.js'
import { emitQuantizedScores } from './quantized-scores/emit.js'
import { emitSortKeys } from './radix-sort/emit.js'
import { emitRouteRegions } from './route-regions/emit.js'
import { emitRowStatistics } from './row-statistics/emit.js'
import { emitSampledScores } from './sampled-scores/emit.js'
import { emitScatterRows } from './scatter-rows/emit.js'
import { emitSegmentedMean } from './segmented-mean/emit.js'
import { emitSelectClusters } from './select-clusters/emit.js'
import { emitSelectLists } from './select-lists/emit.js'
import { emitSelectPages } from './select-pages/emit.js'
import { emitSelectTopK } from './select-top-k/emit.js'
import { emitSelectTopP } from './select-top-p/emit.js'
import { emitSinkWindowLists } from './sink-window-lists/emit.js'
import { emitSplitAttention } from './split-attention/emit.js'
import { splitTiling } from './split-attention/tiling.js'
import { emitUnionOfGroups, emitUnionPlans } from './union-plans/emit.js'
import { emitSlashTiles, emitVerticalSlashIndex } from './vertical-slash-index/emit.js'

/*
 * Examples to read and to review: head_dim 64, causal, one file a kernel. At most 16 in all, one of which belongs to the
 * matrix tier: those with something in them. After a change to an emitter run
 * `pnpm exec vitest run kernels/src/wgsl.test.ts -u` and look at the difference.
 */
const example = { headDim: 64, causal: true } as const
const half = { ...example, dtype: 'f16' } as const

const examples: Record<string, KernelSource> = {
  'flash-attention.portable': emitPortable({ ...half, plan: 'block' }),
  'flash-attention.f16': emitSubgroup({ ...half, plan: 'block' }),
  'flash-attention-stripe.portable': emitPortable({ ...half, plan: 'stripe' }),
  'split-attention.portable': emitSplitAttention({ ...half, rows: 4, singleQuery: true, unroll: true }),
  'merge-attention.portable': emitMergeAttention({ ...half, statistics: 'lse', shared: true }),
  'antidiagonal-statistics.portable': emitAntidiagonalStatistics({ ...half, stride: 16, block: 128 }),
  'pooled-scores.portable': emitPooledScores(example),
  'block-weights.portable': emitBlockWeights({ causal: true, stride: 16, block: 128 }),
  'block-pool.portable': emitBlockPool({ ...half, mode: 'mean' }),
  'select-top-p.portable': emitSelectTopP(true),
  'select-top-k.portable': emitSelectTopK(true),
  'vertical-slash-index.portable': emitVerticalSlashIndex(),
  'sort-scatter.portable': emitSortScatter({ moves: 'order' }),
  'nearest-centroid.portable': emitNearestCentroid(half),
  'quantized-scores.portable': emitQuantizedScores({ ...half, bits: 4, rows: 4, queries: 'int8', packedDot: true }),
}

test.each(Object.entries(examples))('%s', async (name, { code }) => {
  await expect(code).toMatchFileSnapshot(`../wgsl/${name}.wgsl`)
})

test('kernels fit the default limits of WebGPU', () => {
  const heads = [8, 64, 72, 80, 96, 128, 192, 256]
  const every = [
    ...Object.values(examples),
    emitBlockWeights({ causal: false, stride: 4, block: 128 }),
    emitForcedBlocks(true),
    emitAppendRows(),
    emitScanReduce(),
    emitScanBlocks({ offsets: false }),
    emitScanBlocks({ offsets: true }),
    emitSortHistogram(),
    emitSortScatter({ moves: 'indices' }),
    emitSortScatter({ moves: 'pairs' }),
    emitSortKeys(),
    emitRegionOrder(),
    emitRegionSums({ dtype: 'f32' }),
    emitRegionSums({ dtype: 'f16' }),
    emitRouteRegions(),
    emitInversePermutation('clear'),
    emitInversePermutation('invert'),
    emitPermuteRows(half),
    emitScatterRows(half),
    emitRowItems(),
    emitSingleKeys(),
    emitRoundCentroids(64),
    emitBandBlocks(),
    emitHeadOrders(),
    emitHeadErrors(half),
    emitHeadErrors({ headDim: 256, dtype: 'f32' }),
    emitRowStatistics(),
    emitUnionPlans(),
    emitSlashTiles(),
    emitUnionOfGroups(),
    emitBitmapToList(),
    emitListToBitmap(),
    emitDispatchArguments(),
    emitAppendPages(),
    emitCopyPage(),
    emitPlainTable(),
    emitSetLength(),
    emitSelectPages(256),
    emitPruneTopP(256),
    emitListTokens(),
    emitSinkWindowLists(),
    emitSelectClusters(),
    emitSelectLists(),
    emitColumnSums(),
    emitDiagonalSums('given'),
    ...heads.flatMap((headDim) => [
      ...(['block', 'stripe', 'variable-block'] as const).flatMap((plan) => [
        emitPortable({ headDim, causal: false, dtype: 'f32', plan }),
        emitPortable({ headDim, causal: false, dtype: 'f16', plan }),
        emitSubgroup({ headDim, causal: false, dtype: 'f32', plan }),
        emitSubgroup({ headDim, causal: false, dtype: 'f16', plan }),
      ]),
      ...(['f32', 'f16'] as const).flatMap((dtype) =>
        [undefined, 4, 32].map((subgroupSize) =>
          emitSplitAttention({
            headDim,
            causal: true,
            dtype,
            ...(subgroupSize && { subgroupSize }),
            rows: splitTiling(dtype, headDim, subgroupSize).maxRows,
            singleQuery: true,
            unroll: true,
          }),
        ),
      ),
      emitMergeAttention({ headDim, dtype: 'f16', statistics: 'max-sum', shared: true }),
      emitPortable({ headDim, causal: false, dtype: 'f16', plan: 'block', skip: true }),
      emitSampledScores({ headDim, dtype: 'f32', causal: true, source: 'given' }),
      emitBlockPool({ headDim, dtype: 'f32', mode: 'min-max' }),
      emitBlockPool({ headDim, dtype: 'f16', mode: 'min-max' }),
      emitQuantizedScores({ headDim, dtype: 'f32', bits: 8, rows: 8, queries: 'int8' }),
      emitQuantizeKeys({ headDim, dtype: 'f32', bits: 8 }),
      emitQuantizedScores({ headDim, dtype: 'f32', bits: 4, rows: 8, queries: 'exact' }),
      emitQuantizeKeys({ headDim, dtype: 'f32', bits: 4 }),
      ...(['f32', 'f16'] as const).flatMap((dtype) => [
        emitPageBounds({ headDim, dtype, source: 'pages' }),
        emitPageScores({ headDim, dtype, rows: 8 }),
        emitListedScores({ headDim, dtype, rows: 8, keys: 4 }),
        emitListedScores({ headDim, dtype, rows: 8, keys: 'tensor' }),
        emitQuantizeKeys({ headDim, dtype, bits: 4, paged: true }),
      ]),
      emitNearestCentroid({ headDim, dtype: 'f16' }),
      emitSegmentedMean({ headDim, dtype: 'f16' }),
      emitNearestCentroid({ headDim, dtype: 'f32' }),
      emitSegmentedMean({ headDim, dtype: 'f32' }),
      emitPooledScores({ headDim, causal: false }),
    ]),
  ]
  for (const { label, workgroupBytes, workgroupSize, bindings } of every) {
    expect(workgroupBytes, label).toBeLessThanOrEqual(16384)
    expect(workgroupSize, label).toBeLessThanOrEqual(256)
    expect(bindings.filter((kind) => kind !== 'uniform').length, label).toBeLessThanOrEqual(8)
  }
})
