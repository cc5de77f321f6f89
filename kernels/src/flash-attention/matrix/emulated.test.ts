import { defineMethod, type HostPlan, type Runtime, type SubgroupMatrix } from '@sparse-attention/core'
import { makeInputs } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { dense } from '../../dense/method.js'
import { emulatedMatrixRuntime } from '../../shared/emulated-matrix.js'
import { flashAttention } from '../flash-attention.js'
import { checkPlan, randomBlocks, randomClusters, randomStripes, shapeOf, type TestCall } from '../test-plans.js'
import type { WalkedPlan } from '../walk.js'
import type { MatrixGeometry } from './geometry.js'

/*
 * The matrix kernel on matrices made of plain WGSL: its own text runs, in both syntaxes and every shape, without a GPU.
 * Each kernel takes seconds to compile, so that few of them stand for all, and each is asked for much.
 */

interface Case {
  readonly matrix: SubgroupMatrix
  readonly plan: WalkedPlan
  readonly geometry: MatrixGeometry
  readonly causal: boolean
  readonly headDim: number
  /** Of stripes. Default 7. */
  readonly width?: number
}

const template = (M: number, N: number, K: number): SubgroupMatrix => ({ syntax: 'template', M, N, K })
const argument = (M: number, N: number, K: number): SubgroupMatrix => ({ syntax: 'argument', M, N, K })
const one = { rows: 64, subgroupRows: 32 } as const
const two = { rows: 64, subgroupRows: 16 } as const

const cases: Case[] = [
  { matrix: template(16, 16, 16), plan: 'block', geometry: one, causal: true, headDim: 32 },
  { matrix: template(16, 16, 16), plan: 'stripe', geometry: two, causal: false, headDim: 64 },
  { matrix: template(16, 16, 16), plan: 'variable-block', geometry: one, causal: true, headDim: 16 },
  { matrix: template(16, 16, 16), plan: 'stripe', geometry: { ...one, valueTiles: 2 }, causal: true, headDim: 16 },
  { matrix: template(16, 16, 16), plan: 'block', geometry: { ...one, valueTiles: 0 }, causal: true, headDim: 16 },
  {
    matrix: template(16, 16, 16),
    plan: 'stripe',
    geometry: { ...two, valueTiles: 0 },
    causal: true,
    headDim: 16,
    width: 4,
  },
  { matrix: template(16, 8, 16), plan: 'block', geometry: two, causal: false, headDim: 48 },
  { matrix: template(16, 8, 8), plan: 'stripe', geometry: one, causal: true, headDim: 16, width: 32 },
  { matrix: template(8, 8, 8), plan: 'block', geometry: { ...one, rows: 128 }, causal: true, headDim: 16 },
  { matrix: argument(16, 16, 16), plan: 'stripe', geometry: one, causal: true, headDim: 16 },
  { matrix: argument(8, 8, 8), plan: 'variable-block', geometry: two, causal: false, headDim: 16 },
]

/** Dense attention by one geometry only. */
const denseBy = ({ geometry, plan }: Case) =>
  defineMethod<Record<never, never>>({
    ...dense.definition,
    id: 'dense-by-one-geometry',
    options: {},
    neutral: {},
    async create(runtime, config) {
      const variant = { emitter: 'matrix', forms: [{ ...geometry, workgroups: 0 }] } as const
      const attend = await flashAttention(runtime, config, { plan, variant: { variant } })
      return { plan: () => ({ plan: { kind: 'dense' }, dispatches: [] }), attend, dispose() {} }
    },
  })()

function planOf({ plan, geometry, width = 7 }: Case, call: TestCall): HostPlan {
  const blockQ = geometry.rows
  switch (plan) {
    case 'block':
      return randomBlocks({ ...call, blockQ, blockK: 64, density: 0.6 })
    case 'stripe':
      return randomStripes({ ...call, blockQ, heads: 2, width })
    case 'variable-block':
      return randomClusters({ ...call, queryBlocks: 3, keyBlocks: 5, keyHeads: 2 })
  }
}

/** What mutations are caught by, too: plain words. */
function nameOf({ matrix: { syntax, M, N, K }, plan, geometry, causal, headDim }: Case): string {
  const { rows, subgroupRows, valueTiles = 1 } = geometry
  const tiles = ["values in the keys' place", '', 'two tiles of values'][valueTiles]
  const rowsOfLanes = `${rows} rows by ${subgroupRows}${tiles && ` with ${tiles}`}`
  return `${syntax} ${M}×${N}×${K}, ${plan} plan, ${rowsOfLanes}, ${causal ? 'causal' : 'full'}, head_dim ${headDim}`
}

for (const c of cases) {
  describe(nameOf(c), () => {
    const { causal, headDim } = c
    const method = denseBy(c)
    const call: TestCall = { dtype: 'f16', causal, headDim, batch: 1, queryLength: 75, keyLength: 110 }
    let runtime: Runtime
    beforeAll(async () => {
      runtime = await emulatedMatrixRuntime(c.matrix)
    })
    afterAll(() => runtime.dispose())

    test('over a plan', () => checkPlan(runtime, call, planOf(c, call), method))

    test('over every key, strided tensors', () => checkPlan(runtime, { ...call, layout: 'BLHD' }, undefined, method))

    // Maxima that grow by more than weights can: the output is rescaled.
    test('huge logits', () => checkPlan(runtime, { ...call, inputs: 'huge-logits' }, undefined, method))

    test('queries before the first key see none, and the lowest product scores highest', () =>
      checkPlan(runtime, { ...call, queryLength: 40, keyLength: 20, scale: -0.3 }, undefined, method))

    test('NaN and infinity in a value stay with the rows that see its key', async () => {
      const few = { ...call, queryLength: 40, keyLength: 60 }
      const { shape, inputs } = { shape: shapeOf(few), inputs: makeInputs('gaussian', shapeOf(few), 'f16', 5) }
      using attention = await runtime.use(method, { ...shape, ...few })
      using q = runtime.tensor('f16', [1, 4, 40, headDim], Float32Array.from(inputs.q))
      using k = runtime.tensor('f16', [1, 2, 60, headDim], Float32Array.from(inputs.k))
      const poisoned = 33
      const outputs: Float32Array[] = []
      for (const poison of [undefined, Number.NaN, Number.POSITIVE_INFINITY]) {
        const values = Float32Array.from(inputs.v)
        if (poison !== undefined) values[poisoned * headDim + 3] = poison
        using v = runtime.tensor('f16', [1, 2, 60, headDim], values)
        const { out, lse } = await attention.run({ q, k, v })
        outputs.push(await runtime.read(out))
        out.buffer.destroy()
        lse.buffer.destroy()
      }
      const sees = (head: number, row: number) => head < 2 && (!causal || row + 20 >= poisoned)
      for (const output of outputs.slice(1)) {
        for (let head = 0; head < 4; head++) {
          for (let row = 0; row < 40; row++) {
            const at = (head * 40 + row) * headDim
            const [actual, clean] = [output, outputs[0]!].map((all) => all.subarray(at, at + headDim))
            if (sees(head, row)) expect(Number.isFinite(actual![3])).toBe(false)
            else expect(actual).toEqual(clean)
          }
        }
      }
    })
  })
}
