import type { SubgroupMatrix } from '@sparse-attention/core'
import { describe, expect, test } from 'vitest'
import { emulatedMatrixRuntime } from '../shared/emulated-matrix.js'
import { compileErrors } from '../shared/test-compile.js'
import { checkStatistics } from './check-statistics.js'
import { emitMatrixAntidiagonalStatistics } from './matrix.js'

/* The matrix kernel: what a compiler has against its WGSL, and its own text on matrices made of plain WGSL. */

const square = { syntax: 'template', M: 16, N: 16, K: 16 } as const

test('every stride, block and depth compiles, in workgroup memory that two workgroups of a multiprocessor share', async () => {
  const sources = [4, 8, 16].flatMap((stride) =>
    [64, 128].flatMap((block) =>
      ([2, 4] as const).map((units) =>
        emitMatrixAntidiagonalStatistics({
          ...{ headDim: 96, stride, block, units, causal: stride !== 8 },
          subgroupMatrix: square,
        }),
      ),
    ),
  )
  for (const { workgroupBytes, code } of sources) {
    // An H100 gives the workgroups of a multiprocessor 48 KiB through Vulkan.
    expect(workgroupBytes).toBeLessThanOrEqual(24 * 1024)
    const accesses = code.match(/subgroupMatrix(?:Load|Store)<.*/g)!
    for (const access of accesses) expect(access).toMatch(/\], \d+u, (sum_\d+_\d+, )?\d+u\);$/)
  }
  expect((await compileErrors(sources.map(({ code }) => code))).flat()).toEqual([])
})

const cases: { matrix: SubgroupMatrix; stride: number; block: number; headDim: number; causal: boolean }[] = [
  { matrix: square, stride: 16, block: 64, headDim: 32, causal: true },
  { matrix: { syntax: 'argument', M: 16, N: 8, K: 16 }, stride: 4, block: 128, headDim: 16, causal: true },
]

describe.each(cases)(
  '$matrix.syntax $matrix.M×$matrix.N×$matrix.K, stride $stride, blocks of $block, head_dim $headDim, causal $causal',
  ({ matrix, stride, block, headDim, causal }) => {
    test('more than one tile, ragged, grouped heads; NaN and infinity in a key', async () => {
      using runtime = await emulatedMatrixRuntime(matrix)
      const lengths = { queryLength: 130 * stride - 1, keyLength: 134 * stride - 3 }
      const shape = { batch: 1, queryHeads: 2, kvHeads: 1, headDim, ...lengths }
      const options = { shape, dtype: 'f16', stride, block, causal } as const
      expect(await checkStatistics(runtime, { ...options, poison: [70 * headDim, Number.NaN] })).toBeGreaterThan(0)
    })
  },
)
