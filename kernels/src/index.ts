export {
  type AntidiagonalStatistics,
  antidiagonalStatistics,
} from './antidiagonal-statistics/antidiagonal-statistics.js'
export { type Band, type BandBlocks, bandBlocks } from './band-blocks/band-blocks.js'
export { type BitmapToList, bitmapToList, type ListRows } from './bitmap-to-list/bitmap-to-list.js'
export { type BlockPool, blockPool, type PoolMode } from './block-pool/block-pool.js'
export { type BlockWeights, blockWeights } from './block-weights/block-weights.js'
export { type CarriedBlocks, carriedBlocks, type ForcedTokens } from './carried-blocks/carried-blocks.js'
export { type ColumnSums, columnSums } from './column-sums/column-sums.js'
export { contiguousKVCache } from './contiguous-kv-cache/contiguous-kv-cache.js'
export { type ConvertElements, convertElements } from './convert-elements/convert-elements.js'
export { type CountingSort, countingSort, type SortedRows } from './counting-sort/counting-sort.js'
export { dense } from './dense/method.js'
export { type DiagonalSums, diagonalSums } from './diagonal-sums/diagonal-sums.js'
export {
  type DispatchArguments,
  type DispatchArgumentsOptions,
  dispatchArguments,
} from './dispatch-arguments/dispatch-arguments.js'
export { type ExclusiveScan, exclusiveScan } from './exclusive-scan/exclusive-scan.js'
export {
  type Attend,
  type FlashAttentionKernelOptions,
  flashAttention,
  type SkipOptions,
  type SkippingAttend,
  skippingFlashAttention,
  skipTile,
  type VotingAttend,
  votingFlashAttention,
} from './flash-attention/flash-attention.js'
export type { BlockVotes } from './flash-attention/record.js'
export { type ForcedBlocks, type ForcedBlocksOptions, forcedBlocks } from './forced-blocks/forced-blocks.js'
export {
  type RegionOrder,
  type RegionOrderMemory,
  type RegionSums,
  regionOrder,
  regionSums,
} from './grid-regions/grid-regions.js'
export {
  equalRegions,
  type GridRegions,
  regionCounts,
  regionOfTokens,
  regionRectangle,
  shiftedWindows,
} from './grid-regions/regions.js'
export { type HeadMasks, type HeadProfile, headProfile, type VideoTokens } from './head-profile/head-profile.js'
export {
  type InversePermutation,
  inversePermutation,
  type OrderShape,
} from './inverse-permutation/inverse-permutation.js'
export { type Clustering, type KMeans, type KMeansOptions, kMeans } from './k-means/k-means.js'
export { type ClusterShape, groupCount, type NearestCentroid, nearestCentroid } from './k-means/nearest-centroid.js'
export { type ListToBitmap, listToBitmap } from './list-to-bitmap/list-to-bitmap.js'
export { type ListTokens, listTokens } from './list-tokens/list-tokens.js'
export type { ListedKeys } from './listed-scores/listed-keys.js'
export { type ListedScores, listedScores } from './listed-scores/listed-scores.js'
export { type AttentionParts, type MergeAttention, mergeAttention } from './merge-attention/merge-attention.js'
export { methods } from './methods.js'
export { type NewRows, type PageBounds, pageBounds } from './page-bounds/page-bounds.js'
export { type PageScoreRows, type PageScores, pageScores, type ScoredHeads } from './page-scores/page-scores.js'
export {
  type AppendPages,
  appendPages,
  type CopyPage,
  copyPage,
  type NewTokens,
  type PlainPages,
  plainPages,
  type SetLength,
  setLength,
} from './page-table/page-table.js'
export { type PerHeadTable, perHeadTable, perHeadTables } from './per-head-table/per-head-table.js'
export { type PermuteRows, permuteRows, type RowOrder } from './permute-rows/permute-rows.js'
export { permutedAttention } from './permuted-attention/permuted-attention.js'
export { type PooledScores, pooledScores } from './pooled-scores/pooled-scores.js'
export { type PruneTopP, pruneTopP } from './prune-top-p/prune-top-p.js'
export { type KeyBits, type QuantizedKeys, quantizedKeyBytes } from './quantize-keys/layout.js'
export { type QuantizeKeys, type QuantizePages, quantizeKeys, quantizePages } from './quantize-keys/quantize-keys.js'
export { type QuantizedScores, quantizedScores } from './quantized-scores/quantized-scores.js'
export { type RadixSort, radixSort } from './radix-sort/radix-sort.js'
export { type SortKeys, sortKeys } from './radix-sort/sort-keys.js'
export { type RegionRouting, type RouteRegions, routeRegions } from './route-regions/route-regions.js'
export { type RowStatistics, rowStatistics, type ScoreRows } from './row-statistics/row-statistics.js'
export { type SampledScores, sampledScores } from './sampled-scores/sampled-scores.js'
export { type SampledWeights, sampledWeights } from './sampled-weights/sampled-weights.js'
export { type RowsWithLse, type ScatterRows, scatterRows } from './scatter-rows/scatter-rows.js'
export { type RowGroups, type SegmentedMean, segmentedMean } from './segmented-mean/segmented-mean.js'
export { type ClusterRule, type SelectClusters, selectClusters } from './select-clusters/select-clusters.js'
export {
  type HeadLists,
  type ListChoice,
  type SelectLists,
  selectLists,
  type TopKPerHead,
} from './select-lists/select-lists.js'
export { type SelectPages, selectPages } from './select-pages/select-pages.js'
export { type SelectTopK, selectTopK } from './select-top-k/select-top-k.js'
export { type SelectTopP, selectTopP } from './select-top-p/select-top-p.js'
export { newBlockPlan } from './shared/block-plan.js'
export type { SelectedLists } from './shared/pages.js'
export { type HeadRange, headRanges, type RowSource, type SampledRows } from './shared/sampled-rows.js'
export { chunkBytes, chunkRows, type ScoreChunk } from './shared/strided.js'
export { type SinkWindowLists, sinkWindowLists } from './sink-window-lists/sink-window-lists.js'
export type { PagedAttend, PagedOptions, PageTable } from './split-attention/paged.js'
export { splitAttention } from './split-attention/split-attention.js'
export {
  type TuneCall,
  type TuneOptions,
  type TuneProgress,
  type TuneReport,
  tune,
  type VariantReport,
} from './tuning/tune.js'
export { type UnionOfGroups, type UnionPlans, unionOfGroups, unionPlans } from './union-plans/union-plans.js'
export {
  newVerticalSlashPlan,
  type VerticalSlashIndex,
  verticalSlashIndex,
} from './vertical-slash-index/vertical-slash-index.js'
