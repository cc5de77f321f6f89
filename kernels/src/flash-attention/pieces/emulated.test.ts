import { blockGrid, defineMethod, type HostBlockPlan, type Runtime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { dense } from '../../dense/method.js'
import { emulatedMatrixRuntime } from '../../shared/emulated-matrix.js'
import { flashAttention } from '../flash-attention.js'
import { checkPlan } from '../test-plans.js'

/** Dense attention by one geometry only: each takes seconds to compile. */
const denseBy64Rows = defineMethod<Record<never, never>>({
  ...dense.definition,
  id: 'dense-by-64-rows',
  options: {},
  neutral: {},
  async create(runtime, config) {
    const forms = [{ rows: 64, subgroupRows: 32, workgroups: 0 }] as const
    const attend = await flashAttention(runtime, config, { variant: { variant: { emitter: 'matrix', forms } } })
    return { plan: () => ({ plan: { kind: 'dense' }, dispatches: [] }), attend, dispose() {} }
  },
})()

describe('attention over a plan whose rows are cut, on emulated matrices', () => {
  let runtime: Runtime
  beforeAll(async () => {
    runtime = await emulatedMatrixRuntime({ syntax: 'template', M: 16, N: 16, K: 16 })
  })
  afterAll(() => runtime.dispose())

  test('gives what the plan asks for', async () => {
    const c = {
      ...({ dtype: 'f16', causal: true } as const),
      ...{ queryHeads: 2, queryLength: 70, keyLength: 1200, headDim: 16, blockQ: 64, blockK: 64 },
    } as const
    const geometry = { batch: 2, ...c }
    const { queryBlocks, wordsPerRow } = blockGrid(geometry)
    const random = createRandom(5)
    // One row of blocks is dense, one is empty, the others keep every tenth block.
    const bitmap = Uint32Array.from({ length: 4 * queryBlocks * wordsPerRow }, (_, word) => {
      const row = Math.floor(word / wordsPerRow)
      if (row === 2) return 0xffffffff
      let bits = 0
      for (let bit = 0; row !== 7 && bit < 32; bit++) if (random.uniform() < 0.1) bits |= 1 << bit
      return bits >>> 0
    })
    const host: HostBlockPlan = { kind: 'block', ...geometry, bitmap }
    await checkPlan(runtime, c, host, denseBy64Rows)
  })
})
