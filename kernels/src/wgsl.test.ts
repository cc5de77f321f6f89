import { expect, test } from 'vitest'
import { emitAntidiagonalScores } from './antidiagonal-scores/emit.js'
import { emitBitmapToList } from './bitmap-to-list/emit.js'
import { emitBlockPool } from './block-pool/emit.js'
import { emitBlockSums } from './block-sums/emit.js'
import { emitColumnSums } from './column-sums/emit.js'
import { emitAppendRows } from './contiguous-kv-cache/emit.js'
import { emitSortHistogram, emitSortScatter } from './counting-sort/emit.js'
import { emitDiagonalSums } from './diagonal-sums/emit.js'
import { emitDispatchArguments } from './dispatch-arguments/emit.js'
import { emitScanBlocks, emitScanReduce } from './exclusive-scan/emit.js'
import { emitPortable } from './flash-attention/portable.js'
import { emitRowItems } from './flash-attention/row-items.js'
import { emitForcedBlocks } from './forced-blocks/emit.js'
import { emitInversePermutation } from './inverse-permutation/emit.js'
import { emitNearestCentroid } from './k-means/emit.js'
import { emitListToBitmap } from './list-to-bitmap/emit.js'
import { emitPermuteRows } from './permute-rows/emit.js'
import { emitPooledScores } from './pooled-scores/emit.js'
import { emitQuantizeKeys } from './quantize-keys/emit.js'
import { emitQuantizedScores } from './quantized-scores/emit.js'
import { emitSortKeys } from './radix-sort/emit.js'
import { emitRowSoftmax } from './row-softmax/emit.js'
import { emitRowStatistics } from './row-statistics/emit.js'
import { emitSampledScores } from './sampled-scores/emit.js'
import { emitSegmentedMean } from './segmented-mean/emit.js'
import { emitSelectTopK } from './select-top-k/emit.js'
import { emitSelectTopP } from './select-top-p/emit.js'
import { emitUnionOfGroups, emitUnionPlans } from './union-plans/emit.js'
import { emitVerticalSlashIndex, emitVerticalSlashPadding } from './vertical-slash-index/emit.js'

/*
 * One example of every kernel and tier, to read and to review: head_dim 64, causal. After a change to an emitter run
 * `pnpm exec vitest run kernels/src/wgsl.test.ts -u` and look at the difference.
 */
const example = { headDim: 64, causal: true } as const

const kernels = [
  emitPortable({ ...example, dtype: 'f16', plan: 'block' }),
  emitPortable({ ...example, dtype: 'f16', plan: 'stripe' }),
  emitAntidiagonalScores({ ...example, dtype: 'f16', stride: 16 }),
  emitRowSoftmax(true),
  emitBlockSums(),
  emitForcedBlocks(true),
  emitSelectTopP(true),
  emitBlockPool({ ...example, dtype: 'f16', mode: 'mean' }),
  emitPooledScores(example),
  emitSelectTopK({ causal: true, invocations: 64, perHead: false }),
  emitAppendRows(),
  emitScanReduce(),
  emitScanBlocks({ offsets: false }),
  emitScanBlocks({ offsets: true }),
  emitSortHistogram(),
  emitSortScatter({ moves: 'order' }),
  emitSortScatter({ moves: 'indices' }),
  emitSortScatter({ moves: 'pairs' }),
  emitSortKeys(),
  emitInversePermutation('clear'),
  emitInversePermutation('invert'),
  emitPermuteRows({ ...example, dtype: 'f16' }),
  emitNearestCentroid({ ...example, dtype: 'f16' }),
  emitSegmentedMean({ ...example, dtype: 'f16' }),
  emitQuantizeKeys({ ...example, dtype: 'f16', bits: 4 }),
  emitQuantizeKeys({ ...example, dtype: 'f16', bits: 8 }),
  emitQuantizedScores({ ...example, dtype: 'f16', bits: 4, rows: 4 }),
  emitQuantizedScores({ ...example, dtype: 'f16', bits: 8, rows: 4 }),
]

test.each(kernels)('$label', async ({ label, code }) => {
  await expect(code).toMatchFileSnapshot(`../wgsl/${label}.portable.wgsl`)
})

test('kernels fit the default limits of WebGPU', () => {
  const heads = [8, 64, 72, 80, 96, 128, 192, 256]
  const every = [
    ...kernels,
    emitRowStatistics(),
    emitUnionPlans(),
    emitVerticalSlashIndex(),
    emitVerticalSlashPadding(),
    emitUnionOfGroups(),
    emitBitmapToList(),
    emitListToBitmap(),
    emitDispatchArguments(),
    emitSelectTopK({ causal: false, invocations: 256, perHead: true }),
    emitColumnSums(),
    emitDiagonalSums('given'),
    ...heads.flatMap((headDim) => [
      ...(['block', 'stripe', 'variable-block'] as const).flatMap((plan) => [
        emitPortable({ headDim, causal: false, dtype: 'f32', plan }),
        emitPortable({ headDim, causal: false, dtype: 'f16', plan }),
      ]),
      emitPortable({ headDim, causal: false, dtype: 'f16', plan: 'block', skip: true }),
      emitRowItems(),
      emitSampledScores({ headDim, dtype: 'f32', causal: true, source: 'given' }),
      emitBlockPool({ headDim, dtype: 'f32', mode: 'min-max' }),
      emitBlockPool({ headDim, dtype: 'f16', mode: 'min-max' }),
      emitQuantizedScores({ headDim, dtype: 'f32', bits: 8, rows: 8 }),
      emitQuantizeKeys({ headDim, dtype: 'f32', bits: 8 }),
      emitQuantizedScores({ headDim, dtype: 'f32', bits: 4, rows: 8 }),
      emitQuantizeKeys({ headDim, dtype: 'f32', bits: 4 }),
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
