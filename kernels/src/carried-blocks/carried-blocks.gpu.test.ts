import { type BlockPlanData, planElements, type Runtime } from '@sparse-attention/core'
import { createRandom, testRuntime } from '@sparse-attention/testing'
import { beforeAll, expect, test } from 'vitest'
import { testMemory } from '../shared/test-memory.js'
import { carriedBlocks, type ForcedTokens } from './carried-blocks.js'
import { carriedBlocksReference } from './reference.js'

let runtime: Runtime
beforeAll(async () => {
  runtime = await testRuntime()
})

// 70 blocks of keys: three words, the last one part.
const geometry = {
  ...({ kind: 'block', batch: 2, queryHeads: 3, queryLength: 300, keyLength: 4440 } as const),
  ...{ causal: false, blockQ: 128, blockK: 64 },
}

test.each<[string, ForcedTokens]>([
  ['nothing forced', {}],
  ['the first token', { firstTokens: 1 }],
  ['tokens up to the end of a block and one more', { firstTokens: 32 * 64 + 1, lastTokens: 25 }],
  ['the last word and a block before it', { lastTokens: 4440 - 63 * 64 }],
  ['the last rows', { lastRows: 45 }],
  ['one row more, of another block', { lastRows: 45 + 128, firstTokens: 64 }],
  ['everything, and more than there is', { firstTokens: 1e6, lastTokens: 1e6, lastRows: 1e6 }],
])('%s: takes what is carried, forces blocks that hold a token, and leaves nothing', async (_name, forced) => {
  using memory = testMemory(runtime)
  const carry = await carriedBlocks(runtime)
  const words = planElements(geometry).bitmap
  const random = createRandom(3)
  const before = Uint32Array.from({ length: words }, () => random.integer(0, 2 ** 32 - 1))
  for (const fresh of [false, true]) {
    const carried = memory.words(before)
    const bitmap = memory.scratch(4 * words)
    const plan: BlockPlanData = { ...geometry, bitmap }
    await memory.submit([carry(plan, carried, { ...forced, fresh })])
    const expected = carriedBlocksReference(geometry, fresh ? undefined : before, forced)
    expect(await memory.read(bitmap)).toEqual(expected)
    expect(await memory.read(carried)).toEqual(new Uint32Array(words))
  }
})
