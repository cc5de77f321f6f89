import { type BlockPlanData, blockGrid, type Dispatch, type Runtime } from '@sparse-attention/core'
import { blockGridValues } from '../shared/block-plan.js'
import { checkInteger } from '../shared/check.js'
import { packUniforms } from '../shared/uniforms.js'
import { bandBlocksUniforms, emitBandBlocks } from './emit.js'

export interface Band {
  /** Blocks are kept whose numbers differ by at most so much. */
  readonly reach: number
  /** Blocks that hold one of so many first keys are kept by everyone. Default 0. */
  readonly firstKeys?: number
  /** Blocks that hold a token from this one on keep everything, and are kept by everyone. Default: none do. */
  readonly denseFrom?: number
}

export type BandBlocks = (plan: BlockPlanData, band: Band) => Dispatch

/**
 * A static plan: the blocks near the diagonal, in both directions, first keys, and tokens at the end that see everything and are
 * seen by all. Writes every word of the bitmap. Not causal.
 *
 * Cost: the bitmap written once.
 *
 * @throws INVALID_ARGUMENT
 */
export async function bandBlocks(runtime: Runtime): Promise<BandBlocks> {
  const kernel = await runtime.kernel(emitBandBlocks())
  return (plan, { reach, firstKeys = 0, denseFrom = 2 ** 31 }) => {
    checkInteger('reach', reach, 0, 2 ** 31)
    const { queryBlocks, wordsPerRow } = blockGrid(plan)
    const heads = plan.batch * plan.queryHeads
    const uniforms = packUniforms(bandBlocksUniforms, {
      ...blockGridValues(plan),
      reach,
      first_keys: firstKeys,
      dense_from: denseFrom,
      key_length: plan.keyLength,
    })
    return {
      kernel,
      bindings: [runtime.uniforms.get(uniforms), plan.bitmap],
      workgroups: [Math.ceil(wordsPerRow / 64), queryBlocks, heads],
      cost: { operations: 0, bytes: heads * queryBlocks * wordsPerRow * 4 },
    }
  }
}
