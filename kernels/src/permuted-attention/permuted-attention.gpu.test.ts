import { createRuntime, defineMethod, type HostPermutedPlan, type HostPlan, type Runtime } from '@sparse-attention/core'
import { createRandom } from '@sparse-attention/testing'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { dense } from '../dense/method.js'
import { checkPlan, randomBlocks, randomClusters, shapeOf, type TestCall } from '../flash-attention/test-plans.js'
import { randomPermutation } from '../shared/test-memory.js'
import { permutedAttention } from './permuted-attention.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await createRuntime()
})
afterAll(() => runtime.dispose())

/** Attends over the plans that it is given. */
const attends = (plan: 'block' | 'variable-block') =>
  defineMethod<Record<never, never>>({
    ...dense.definition,
    id: 'permuted',
    options: {},
    neutral: {},
    scaled: () => ({}),
    create: async (on, config) => ({
      plan: () => ({ plan: { kind: 'dense' }, dispatches: [] }),
      attend: await permutedAttention(on, config, { plan }),
      permutedPlans: true,
      dispose() {},
    }),
  })()

const random = createRandom(15)

function permuted(plan: HostPlan, c: TestCall, keyHeads: number): HostPermutedPlan {
  const { batch, queryHeads, queryLength, keyLength } = shapeOf(c)
  const orders = (heads: number, length: number) =>
    Int32Array.from(Array.from({ length: batch * heads }, () => randomPermutation(random, length)).flat())
  const permutation = { keyHeads, queries: orders(queryHeads, queryLength), keys: orders(keyHeads, keyLength) }
  return { ...(plan as HostPermutedPlan), permutation }
}

describe('permuted attention', () => {
  const call = { dtype: 'f32', causal: false, queryLength: 150, keyLength: 140, headDim: 24 } as const

  test.each([
    ['orders of KV heads', 2],
    ['of query heads', 4],
    ['of all heads at once', 1],
  ] as const)('over clusters of permuted tokens, %s', async (_, keyHeads) => {
    const c = { ...call, layout: 'BLHD', keyHeads, queryBlocks: 4, keyBlocks: 7 } as const
    const plan = permuted(randomClusters({ ...c, keyHeads: 2 }), c, keyHeads)
    await checkPlan(runtime, c, plan, attends('variable-block'))
  })

  test('over blocks of permuted tokens, in f16', async () => {
    const c = { ...call, dtype: 'f16', queryLength: 190, keyLength: 300, blockQ: 64, blockK: 64, density: 0.4 } as const
    await checkPlan(runtime, c, permuted(randomBlocks(c), c, 4), attends('block'))
  })

  test('over blocks of tokens where they lie, and over none', async () => {
    const c = { ...call, keyLength: 300, blockQ: 64, blockK: 64, density: 0.4 } as const
    await checkPlan(runtime, c, randomBlocks(c), attends('block'))
    await checkPlan(runtime, c, undefined, attends('block'))
  })

  test('a plan of another kind is refused', async () => {
    const c = { ...call, keyLength: 300, blockQ: 64, blockK: 64, density: 0.4 } as const
    const run = checkPlan(runtime, c, permuted(randomBlocks(c), c, 4), attends('variable-block'))
    await expect(run).rejects.toMatchObject({ code: 'UNSUPPORTED', where: 'plan' })
  })
})
