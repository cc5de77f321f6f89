import { expect, test } from 'vitest'
import { emulatedMatrixRuntime } from '../shared/emulated-matrix.js'
import { compileErrors } from '../shared/test-compile.js'
import { checkScores } from './check-scores.js'
import { emitMatrixSampledScores } from './matrix.js'

/* The matrix kernel: what a compiler has against its WGSL, and its own text on matrices made of plain WGSL. */

const square = { syntax: 'template', M: 16, N: 16, K: 16 } as const

test('both sources of rows and both depths compile, within the default limits', async () => {
  const sources = (['last', 'given'] as const).flatMap((source) =>
    ([2, 4] as const).map((units) =>
      emitMatrixSampledScores({ headDim: 64, causal: true, source, units, subgroupMatrix: square }),
    ),
  )
  for (const { workgroupBytes } of sources) expect(workgroupBytes).toBeLessThanOrEqual(16384)
  expect((await compileErrors(sources.map(({ code }) => code))).flat()).toEqual([])
})

test('matrices of 8×8×8, more than one tile of keys, listed rows, some heads; NaN in a key', async () => {
  using runtime = await emulatedMatrixRuntime({ syntax: 'argument', M: 8, N: 8, K: 8 })
  const shape = { batch: 2, queryHeads: 4, kvHeads: 2, queryLength: 100, keyLength: 150, headDim: 48 }
  const scores = await checkScores(runtime, shape, {
    ...{ dtype: 'f16', causal: true, rows: [99, 0, 5, 5, -1, 100, 42], heads: { first: 3, count: 3 } },
    poison: [(2 * 150 + 20) * 48 + 3, Number.NaN],
  })
  expect(scores.length).toBeGreaterThanOrEqual(3 * 7 * 150)
})
