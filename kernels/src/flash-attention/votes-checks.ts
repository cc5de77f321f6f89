import { blockGrid, denseMask, type HostBlockPlan, type Runtime } from '@sparse-attention/core'
import { expectAttentionClose, makeInputs } from '@sparse-attention/testing'
import { expect } from 'vitest'
import { testFrame } from '../shared/test-frame.js'
import { votingFlashAttention } from './flash-attention.js'
import { skipReference } from './skip-reference.js'

/** A call of several steps of the walk, ragged in both lengths, with a block of queries that is mostly padding. */
export interface VoteCall {
  readonly dtype: 'f32' | 'f16'
  readonly causal?: boolean
  readonly blockQ?: 64 | 128
  readonly headDim?: number
  readonly queryLength?: number
  readonly keyLength?: number
  /** Rows of more blocks are computed in pieces, each of so many at most. */
  readonly longestPiece?: number
}

const blockK = 64

/**
 * Calls twice over plans of blocks, the second one over what the first needed, and compares the votes with float64 in the
 * kernel's order of keys; then once without votes and once dense, which must leave `needed` as it is.
 */
export async function checkVotes(runtime: Runtime, call: VoteCall, threshold: number): Promise<void> {
  const { dtype, causal = false, blockQ = 64, headDim = 32, queryLength = 100, keyLength = 2200, longestPiece } = call
  const shape = { batch: 1, queryHeads: 2, kvHeads: 1, queryLength, keyLength, headDim }
  const { batch, queryHeads, kvHeads } = shape
  const scale = 0.25
  const config = { queryHeads, kvHeads, headDim, dtype, causal, scale }
  const inputs = makeInputs('stripes', shape, dtype, 9)
  const geometry = { kind: 'block', batch, queryHeads, queryLength, keyLength, causal, blockQ, blockK } as const
  const { queryBlocks, keyBlocks, wordsPerRow } = blockGrid(geometry)
  const words = batch * queryHeads * queryBlocks * wordsPerRow
  const attend = await votingFlashAttention(runtime, config, { blockK })
  const floats = (bits: Uint32Array) => new Float32Array(bits.slice().buffer)

  let plan: HostBlockPlan = { ...geometry, bitmap: new Uint32Array(words).fill(0xffffffff) }
  let previous = 0.9 * batch * queryHeads * queryBlocks * keyBlocks
  for (const step of [1, 2]) {
    using frame = testFrame(runtime, shape, inputs, { dtype, causal, scale })
    const upload = () => frame.memory([words], floats(plan.bitmap))
    const needed = frame.memory([words])
    const data = { ...geometry, bitmap: upload() }
    await frame.submit(attend(frame.frame, data, { threshold: threshold / step ** 3, needed }))
    const found = (await frame.words(needed)).slice(0, words)
    const tile = { rows: blockQ, keys: blockK }
    const problem = {
      ...(longestPiece && { longestPiece }),
      ...shape,
      ...inputs,
      causal,
      scale,
      tile,
      plan,
      threshold: (threshold / step ** 3) * Math.LN2,
    }
    const expected = skipReference(problem)
    // Float32 and float64 may differ where a score is this close to the threshold; these inputs have no such score.
    expect(expected.margin).toBeGreaterThan(1e-5)
    expect(found).toEqual(expected.bitmap)
    expect(expected.computed).toBeLessThanOrEqual(previous)
    expect(expected.computed).toBeGreaterThan(batch * queryHeads * queryBlocks)
    previous = expected.computed
    const name = `step ${step}`
    const read = async () => ({
      out: await runtime.read(frame.frame.out),
      lse: await runtime.read(frame.frame.lse),
    })
    const voted = await read()
    expectAttentionClose(voted, { ...shape, ...inputs, scale, mask: denseMask(plan), dtype, name })

    // Bits that are there stay; the same call sets the same ones.
    const marks = Uint32Array.from({ length: words }, () => 0x80000001)
    const marked = frame.memory([words], floats(marks))
    await frame.submit(attend(frame.frame, data, { threshold: threshold / step ** 3, needed: marked }))
    expect((await frame.words(marked)).slice(0, words)).toEqual(found.map((word, i) => (word | marks[i]!) >>> 0))
    // Nobody asks for votes.
    await frame.submit(attend(frame.frame, data))
    expect(await read()).toEqual(voted)
    await frame.submit(attend(frame.frame, { kind: 'dense' }, { threshold, needed }))
    expect((await frame.words(needed)).slice(0, words)).toEqual(found)
    plan = { ...geometry, bitmap: found }
  }
}
