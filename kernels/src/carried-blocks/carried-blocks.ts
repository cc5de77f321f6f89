import { type BlockPlanData, type BufferSlice, blockGrid, type Dispatch, type Runtime } from '@sparse-attention/core'
import { packUniforms } from '../shared/uniforms.js'
import { carriedBlocksUniforms, emitCarriedBlocks } from './emit.js'

/** Tokens whose blocks are always computed: a block that holds one of them is in the plan. Default none. */
export interface ForcedTokens {
  /** Keys at the start of the sequence, and at its end. */
  readonly firstTokens?: number
  readonly lastTokens?: number
  /** Queries at the end of the sequence: they see every key. */
  readonly lastRows?: number
}

/**
 * @param carried  u32, as the plan's bitmap: blocks that an earlier call needed; zeros afterwards. With `fresh` its contents do
 *   not matter, and the plan is of all blocks
 */
export type CarriedBlocks = (
  plan: BlockPlanData,
  carried: BufferSlice,
  options: ForcedTokens & { readonly fresh: boolean },
) => Dispatch

/**
 * Makes a block plan of what an earlier call left, and empties that for the votes of the call that will run the plan
 * (`votingFlashAttention`). Not causal. Writes every word of both.
 *
 * Cost: the bitmap read once and written twice.
 */
export async function carriedBlocks(runtime: Runtime): Promise<CarriedBlocks> {
  const kernel = await runtime.kernel(emitCarriedBlocks())
  return (plan, carried, { fresh, firstTokens = 0, lastTokens = 0, lastRows = 0 }) => {
    const { queryBlocks, keyBlocks, wordsPerRow } = blockGrid(plan)
    const heads = plan.batch * plan.queryHeads
    const firstOf = (length: number, tokens: number, block: number, blocks: number) =>
      tokens <= 0 ? blocks : Math.floor(Math.max(0, length - tokens) / block)
    const uniforms = packUniforms(carriedBlocksUniforms, {
      words: wordsPerRow,
      query_blocks: queryBlocks,
      key_blocks: keyBlocks,
      fresh: Number(fresh),
      first_keys_end: Math.min(keyBlocks, Math.ceil(firstTokens / plan.blockK)),
      last_keys_start: firstOf(plan.keyLength, lastTokens, plan.blockK, keyBlocks),
      last_rows_start: firstOf(plan.queryLength, lastRows, plan.blockQ, queryBlocks),
    })
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), carried, plan.bitmap],
      workgroups: [Math.ceil(wordsPerRow / 64), queryBlocks, heads],
      cost: { operations: 0, bytes: 12 * heads * queryBlocks * wordsPerRow },
    }
  }
}
