import { testRuntime, testTiers } from '@sparse-attention/testing'
import { describe, test } from 'vitest'
import { checkVotes } from './votes-checks.js'

/*
 * Which blocks rows need, against float64 in the kernel's order of keys: plans of more than one word, the last block short,
 * rows behind the last query, which must neither vote for a block nor against it.
 */
for (const tier of await testTiers()) {
  describe(`tier ${tier}`, () => {
    test('query blocks of 64 vote as float64 does, and a plan of what they need again', async () =>
      checkVotes(await testRuntime(tier), { dtype: 'f32' }, -5))

    test('two workgroups vote for a query block of 128; rows see no key behind themselves', async () =>
      checkVotes(
        await testRuntime(tier),
        // On matrices rows are computed in pieces of at least 1024 keys.
        { dtype: 'f16', blockQ: 128, causal: true, headDim: 80, ...(tier === 'matrix' && { longestPiece: 16 }) },
        -5,
      ))
  })
}
