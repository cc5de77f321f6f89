import type { Runtime } from '@sparse-attention/core'
import { createRandom, roundTo, uploadTensor } from '@sparse-attention/testing'
import { expect, test } from 'vitest'
import { emulatedMatrixRuntime } from '../shared/emulated-matrix.js'
import { compileErrors } from '../shared/test-compile.js'
import { testMemory } from '../shared/test-memory.js'
import { emitMatrixNearestCentroid } from './matrix.js'
import { nearestCentroid } from './nearest-centroid.js'
import { nearestCentroidReference } from './reference.js'

/* The matrix kernel: what a compiler has against its WGSL, and its own text on matrices made of plain WGSL. */

const random = createRandom(21)

test('both depths compile, one of them within the default limits', async () => {
  const subgroupMatrix = { syntax: 'template', M: 16, N: 16, K: 16 } as const
  const sources = ([2, 4] as const).map((units) => emitMatrixNearestCentroid({ headDim: 64, units, subgroupMatrix }))
  expect(sources[0]!.workgroupBytes).toBeLessThanOrEqual(16384)
  expect((await compileErrors(sources.map(({ code }) => code))).flat()).toEqual([])
})

/** Labels rows of two heads on matrices, those behind `members` apart, and compares with float64 over rounded centroids. */
async function check(runtime: Runtime, value: () => number, clusters: number, closest: number): Promise<number[]> {
  const [heads, length, members, headDim] = [2, 300, 290, 48]
  const x = roundTo('f16', Float64Array.from({ length: heads * length * headDim }, value))
  const centroids = Float32Array.from({ length: heads * (clusters + 1) * headDim }, value)
  // A copy of the second centroid: it must stay without rows.
  centroids.copyWithin((clusters - 1) * headDim, headDim, 2 * headDim)
  using memory = testMemory(runtime)
  using from = uploadTensor(runtime, 'f16', [1, heads, length, headDim], x, 'BLHD')
  const labels = memory.words(heads * length)
  const record = await nearestCentroid(runtime, { dtype: 'f16', headDim })
  await memory.submit(record(memory, from, { clusters, members }, memory.words(centroids), labels))
  const found = [...(await memory.read(labels))]
  for (let head = 0; head < heads; head++) {
    const rows = x.slice(head * length * headDim, (head + 1) * length * headDim)
    const first = head * (clusters + 1) * headDim
    const rounded = roundTo('f16', Float64Array.from(centroids.subarray(first, first + clusters * headDim)))
    const expected = nearestCentroidReference(rows, rounded, headDim)
    const clear = expected.gaps.flatMap((gap, i) =>
      i < members && (head > 0 || gap !== 0) && gap >= closest ? [i] : [],
    )
    expect(clear.length).toBeGreaterThan(200)
    expect(clear.map((i) => found[head * length + i])).toEqual(clear.map((i) => expected.labels[i]))
    expect(found.slice(head * length + members, (head + 1) * length)).toEqual(Array(length - members).fill(clusters))
  }
  return found
}

test.each([
  { syntax: 'argument', M: 8, N: 8, K: 8 },
  { syntax: 'template', M: 16, N: 8, K: 16 },
] as const)('nearest of more than one tile of centroids, matrices of $M×$N×$K', async (subgroupMatrix) => {
  using runtime = await emulatedMatrixRuntime(subgroupMatrix)
  // Distances of size about 100 in float32: closer than 1e-3 either may win.
  await check(runtime, random.gaussian, 131, 1e-3)
})

test('integers: ties go to the lower cluster', async () => {
  using runtime = await emulatedMatrixRuntime({ syntax: 'template', M: 16, N: 16, K: 16 })
  const found = await check(runtime, () => random.integer(-1, 1), 70, 0)
  expect(found.slice(0, 300)).toContain(1)
  expect(found.slice(0, 300)).not.toContain(69) // the copy
})
